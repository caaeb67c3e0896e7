{{/* Names and labels. All that a release makes is named after it, so that two releases in one cluster have nothing in common. */}}

{{/* What is longer than `max` is cut, and ends in a hash of all of it: names that begin alike stay apart. Takes (dict "text" "max"). */}}
{{- define "fn.cut" -}}
{{- if gt (len .text) (int .max) -}}
{{- printf "%s-%s" (trunc (int (sub .max 9)) .text | trimSuffix "-") (sha256sum .text | trunc 8) -}}
{{- else -}}
{{- .text -}}
{{- end -}}
{{- end -}}

{{/* 40 characters at most: the longest suffix has 19, and a name may have 63. */}}
{{- define "fn.fullname" -}}
{{- $name := .Values.fullnameOverride -}}
{{- if not $name -}}
{{- $base := .Values.nameOverride | default .Chart.Name -}}
{{- $name = ternary .Release.Name (printf "%s-%s" .Release.Name $base) (contains $base .Release.Name) -}}
{{- end -}}
{{- include "fn.cut" (dict "text" $name "max" 40) -}}
{{- end -}}

{{/* Unique in the cluster: `fn` for the release fn in the namespace fn, else NAMESPACE-NAME. */}}
{{- define "fn.installation" -}}
{{- $name := include "fn.fullname" . -}}
{{- if ne $name .Release.Namespace -}}
{{- $name = printf "%s-%s" .Release.Namespace $name -}}
{{- end -}}
{{- include "fn.cut" (dict "text" $name "max" 50) -}}
{{- end -}}

{{- define "fn.functionsNamespace" -}}
{{- .Values.functions.namespace | default (printf "%s-functions" (include "fn.installation" .)) -}}
{{- end -}}

{{- define "fn.ownerName" -}}
{{- printf "%s-owner" (include "fn.installation" .) -}}
{{- end -}}

{{- define "fn.chartLabel" -}}
{{- printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* What selects a component's pods: never changes. Takes (dict "root" $ "component" "gateway"). */}}
{{- define "fn.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "fn.labels" -}}
{{ include "fn.selector" . }}
app.kubernetes.io/part-of: fn
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ include "fn.chartLabel" .root }}
{{- with .root.Chart.AppVersion }}
app.kubernetes.io/version: {{ . | replace "+" "_" | trunc 63 | quote }}
{{- end }}
{{- with merge (dict) (.labels | default dict) .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* metadata of an object of the release. Takes (dict "root" "component" "suffix" "namespace" "annotations"); what is missing is the release's. */}}
{{- define "fn.metadata" -}}
name: {{ .name | default (printf "%s-%s" (include "fn.fullname" .root) (.suffix | default .component)) }}
namespace: {{ .namespace | default .root.Release.Namespace }}
labels:
  {{- include "fn.labels" . | nindent 2 }}
{{- $annotations := merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What lasts: kept when the release goes, where values say so. */}}
{{- define "fn.keep" -}}
{{- if .Values.keepOnUninstall }}{"helm.sh/resource-policy":"keep"}{{ else }}{}{{ end -}}
{{- end -}}

{{/* `1e+08` is how a template prints 100000000. Takes any scalar. */}}
{{- define "fn.text" -}}
{{- if kindIs "float64" . -}}
{{- if eq (float64 (int64 .)) . -}}{{ printf "%d" (int64 .) }}{{- else -}}{{ toString . }}{{- end -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end -}}

{{/* registry/repository@digest, or :tag. Takes (dict "root" $ "image" .Values.images.gateway). */}}
{{- define "fn.image" -}}
{{- $registry := .image.registry | default .root.Values.images.registry -}}
{{- $name := .image.repository -}}
{{- if $registry }}{{ $name = printf "%s/%s" (trimSuffix "/" $registry) $name }}{{ end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $name .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (.image.tag | default .root.Values.images.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "fn.apiTokenSecret" -}}
{{- .Values.api.token.existingSecret | default (printf "%s-api-token" (include "fn.fullname" .)) -}}
{{- end -}}
{{- define "fn.linkTokenSecret" -}}
{{- .Values.link.token.existingSecret | default (printf "%s-link-token" (include "fn.fullname" .)) -}}
{{- end -}}
{{- define "fn.linkTlsSecret" -}}
{{- .Values.link.tls.existingSecret | default (printf "%s-link-tls" (include "fn.fullname" .)) -}}
{{- end -}}
{{- define "fn.secretKeySecret" -}}
{{- .Values.secretKey.existingSecret | default (printf "%s-secret-key" (include "fn.fullname" .)) -}}
{{- end -}}
{{- define "fn.redisSecret" -}}
{{- .Values.redis.password.existingSecret | default (printf "%s-redis" (include "fn.fullname" .)) -}}
{{- end -}}
{{- define "fn.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (printf "%s-controller" (include "fn.fullname" .)) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* Where functions are called, without a slash at its end. */}}
{{- define "fn.publicUrl" -}}
{{- if .Values.publicUrl -}}
{{- trimSuffix "/" .Values.publicUrl -}}
{{- else if and .Values.ingress.enabled .Values.ingress.hosts -}}
{{- printf "%s://%s" (ternary "https" "http" (not (empty .Values.ingress.tls))) (first .Values.ingress.hosts) -}}
{{- else if and .Values.httpRoute.enabled .Values.httpRoute.hostnames -}}
{{- printf "%s://%s" .Values.httpRoute.scheme (first .Values.httpRoute.hostnames) -}}
{{- else -}}
{{- $port := int .Values.gateway.service.port -}}
{{- printf "http://%s-gateway.%s.svc%s" (include "fn.fullname" .) .Release.Namespace (ternary "" (printf ":%d" $port) (eq $port 80)) -}}
{{- end -}}
{{- end -}}

{{/* ADDRESS:PORT to listen at. Takes (dict "root" $ "port" 8080). */}}
{{- define "fn.listen" -}}
{{- printf "%s:%d" .root.Values.listenAddress (int .port) -}}
{{- end -}}

{{- define "fn.port.gateway" -}}8080{{- end -}}
{{- define "fn.port.gatewayTls" -}}8443{{- end -}}
{{- define "fn.port.api" -}}7070{{- end -}}
{{- define "fn.port.link" -}}7071{{- end -}}
{{- define "fn.port.events" -}}7072{{- end -}}
{{- define "fn.port.health" -}}7073{{- end -}}
{{- define "fn.port.metrics" -}}9464{{- end -}}
