{{/* What values.schema.json cannot say: values that contradict each other, with what to do. */}}
{{- define "fn.checks" -}}
{{- $v := .Values -}}
{{- $external := or $v.externalRedis.url $v.externalRedis.existingSecret -}}
{{- if and $v.redis.enabled $external -}}
{{- fail "two stores: redis.enabled is true and externalRedis is set. Set redis.enabled=false to use your own Redis, or take externalRedis away." -}}
{{- end -}}
{{- if and (not $v.redis.enabled) (not $external) -}}
{{- fail "no store: redis.enabled is false, so set externalRedis.existingSecret (a Secret with the URL of your Redis) or externalRedis.url." -}}
{{- end -}}
{{- if and $v.externalRedis.url $v.externalRedis.existingSecret -}}
{{- fail "externalRedis.url and externalRedis.existingSecret are both set: keep one of them." -}}
{{- end -}}
{{- if regexMatch "^[a-z]+://[^/]*:[^/@]*@" $v.externalRedis.url -}}
{{- fail "externalRedis.url holds a password, which everybody who may read the release could see: put the URL in a Secret and name it in externalRedis.existingSecret." -}}
{{- end -}}
{{- $functions := include "fn.functionsNamespace" . -}}
{{- if eq $functions .Release.Namespace -}}
{{- fail (printf "functions.namespace is the release's own (%s): what functions can reach must hold nothing else. Name another, or leave it empty." $functions) -}}
{{- end -}}
{{- if $v.functions.create -}}
{{- if dig "metadata" "deletionTimestamp" "" (lookup "v1" "Namespace" "" $functions | default dict) -}}
{{- fail (printf "the namespace %s of a former release is still being removed. Once it is gone: kubectl wait --for=delete namespace/%s --timeout=5m" $functions $functions) -}}
{{- end -}}
{{- end -}}
{{- if gt (len $functions) 63 -}}
{{- fail (printf "functions.namespace %s has %d characters, and a namespace has 63 at most." $functions (len $functions)) -}}
{{- end -}}
{{- if eq "{}" (include "fn.runtimeImages" .) -}}
{{- fail "no runtime is enabled: functions would have nothing to run in. Set runtimes.node.enabled=true, or another." -}}
{{- end -}}
{{- with $v.gateway.autoscaling -}}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- fail (printf "gateway.autoscaling.minReplicas (%d) is more than maxReplicas (%d)." (int .minReplicas) (int .maxReplicas)) -}}
{{- end -}}
{{- if and .enabled (not .targetCPUUtilizationPercentage) (not .metrics) -}}
{{- fail "gateway.autoscaling is enabled and has nothing to go by: set targetCPUUtilizationPercentage, or metrics." -}}
{{- end -}}
{{- if and .enabled .targetCPUUtilizationPercentage (not (dig "requests" "cpu" "" $v.gateway.resources)) -}}
{{- fail "gateway.autoscaling goes by CPU, and that is measured against gateway.resources.requests.cpu, which is not set." -}}
{{- end -}}
{{- end -}}
{{- if and $v.link.tls.enabled $v.link.tls.certManager.enabled (not $v.link.tls.certManager.issuerRef.name) -}}
{{- fail "link.tls.certManager is enabled: name who signs, in link.tls.certManager.issuerRef.name." -}}
{{- end -}}
{{- if and $v.link.tls.certManager.enabled $v.link.tls.existingSecret -}}
{{- fail "link.tls.certManager.enabled and link.tls.existingSecret are both set: keep one of them." -}}
{{- end -}}
{{- if and $v.httpRoute.enabled (not $v.httpRoute.parentRefs) -}}
{{- fail "httpRoute is enabled: name the Gateway that it belongs to, in httpRoute.parentRefs." -}}
{{- end -}}
{{- if and $v.tls.enabled (not $v.tls.secrets) -}}
{{- fail "tls is enabled without certificates: name Secrets of type kubernetes.io/tls in tls.secrets." -}}
{{- end -}}
{{- if and $v.declared.enabled (not $v.declared.namespaces) -}}
{{- fail "declared is enabled for no namespace: list some in declared.namespaces, or set declared.enabled=false." -}}
{{- end -}}
{{- range $index, $one := $v.declared.namespaces -}}
{{- $kube := $one.kubeNamespace | default $.Release.Namespace -}}
{{- if eq $kube $functions -}}
{{- fail (printf "declared.namespaces[%d] is the namespace that instances are in (%s): nothing else should be." $index $kube) -}}
{{- end -}}
{{- range $other, $two := $v.declared.namespaces -}}
{{- if and (lt $other $index) (eq $kube ($two.kubeNamespace | default $.Release.Namespace)) -}}
{{- fail (printf "declared.namespaces names %s twice: Functions of a namespace belong to one namespace of fn." $kube) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $component := list "gateway" "controller" -}}
{{- range (get $v $component).extraEnv -}}
{{- if hasPrefix "FN_" .name -}}
{{- fail (printf "%s.extraEnv sets %s: settings of fn belong in %s.config, where they are checked." $component .name $component) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
