import { describe, expect, it } from 'vitest';
import { KubernetesSettings } from '../../kube/settings.ts';
import type { CreateSpec } from '../types.ts';
import { podName } from './labels.ts';
import { podManifest } from './pod.ts';

const SPEC: CreateSpec = {
  id: 'i-0123456789ab',
  runtime: 'node',
  memoryClassMib: 256,
  network: 'egress',
  image: null,
  sandbox: null,
  nonce: 'the-nonce',
};

const make = (spec: Partial<CreateSpec> = {}, settings: Record<string, unknown> = {}) =>
  podManifest({
    settings: KubernetesSettings.parse(settings),
    spec: { ...SPEC, ...spec },
    image: 'fn/node:1',
    version: '1.2.3',
    owner: { name: 'fn-owner', uid: 'owner-uid' },
  });

describe('the pod of an instance', () => {
  it('is the allow-list: nothing is added, lost or loosened', () => {
    expect(make()).toMatchInlineSnapshot(`
      {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
          "annotations": {
            "cluster-autoscaler.kubernetes.io/safe-to-evict": "true",
            "fn.dev/version": "1.2.3",
          },
          "labels": {
            "app.kubernetes.io/managed-by": "fn",
            "fn.dev/egress": "internet",
            "fn.dev/installation": "fn",
            "fn.dev/instance": "i-0123456789ab",
            "fn.dev/memory-class": "256",
            "fn.dev/network": "egress",
            "fn.dev/runtime": "node",
            "fn.dev/state": "generic",
          },
          "name": "fn-fn-i-0123456789ab",
          "namespace": "fn-functions",
          "ownerReferences": [
            {
              "apiVersion": "v1",
              "blockOwnerDeletion": false,
              "controller": true,
              "kind": "ConfigMap",
              "name": "fn-owner",
              "uid": "owner-uid",
            },
          ],
        },
        "spec": {
          "automountServiceAccountToken": false,
          "containers": [
            {
              "args": [
                "--max-old-space-size=217",
                "/fn/shim.mjs",
              ],
              "env": [
                {
                  "name": "FN_INSTANCE",
                  "value": "i-0123456789ab",
                },
                {
                  "name": "FN_NONCE",
                  "value": "sha256:1968c4e0ab4485035285e7222c45520ca298b5adfeb0527fdb345c6b1b41caab",
                },
                {
                  "name": "FN_PORT",
                  "value": "9871",
                },
                {
                  "name": "FN_CODE",
                  "value": "/fn/code",
                },
              ],
              "image": "fn/node:1",
              "imagePullPolicy": "IfNotPresent",
              "name": "instance",
              "ports": [
                {
                  "containerPort": 9871,
                  "name": "fn",
                  "protocol": "TCP",
                },
              ],
              "resources": {
                "limits": {
                  "cpu": "2000m",
                  "ephemeral-storage": "576Mi",
                  "memory": "256Mi",
                },
                "requests": {
                  "cpu": "20m",
                  "ephemeral-storage": "16Mi",
                  "memory": "256Mi",
                },
              },
              "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": {
                  "drop": [
                    "ALL",
                  ],
                },
                "privileged": false,
                "readOnlyRootFilesystem": true,
                "runAsNonRoot": true,
              },
              "terminationMessagePolicy": "FallbackToLogsOnError",
              "volumeMounts": [
                {
                  "mountPath": "/tmp",
                  "name": "tmp",
                },
                {
                  "mountPath": "/fn/code",
                  "name": "code",
                },
              ],
            },
          ],
          "dnsConfig": {
            "options": [
              {
                "name": "ndots",
                "value": "1",
              },
            ],
          },
          "dnsPolicy": "ClusterFirst",
          "enableServiceLinks": false,
          "hostname": "i-0123456789ab",
          "restartPolicy": "Never",
          "securityContext": {
            "runAsGroup": 65532,
            "runAsNonRoot": true,
            "runAsUser": 65532,
            "seccompProfile": {
              "type": "RuntimeDefault",
            },
          },
          "terminationGracePeriodSeconds": 60,
          "topologySpreadConstraints": [
            {
              "labelSelector": {
                "matchLabels": {
                  "fn.dev/installation": "fn",
                },
              },
              "maxSkew": 1,
              "topologyKey": "kubernetes.io/hostname",
              "whenUnsatisfiable": "ScheduleAnyway",
            },
          ],
          "volumes": [
            {
              "emptyDir": {
                "medium": "Memory",
                "sizeLimit": "64Mi",
              },
              "name": "tmp",
            },
            {
              "emptyDir": {
                "sizeLimit": "512Mi",
              },
              "name": "code",
            },
          ],
        },
      }
    `);
  });

  it('has nobody to ask for names where it has no network', () => {
    const { metadata, spec } = make({ network: 'none' });
    expect(spec).toMatchObject({ dnsPolicy: 'None', dnsConfig: { nameservers: ['127.0.0.1'] } });
    expect(metadata.labels).toMatchObject({ 'fn.dev/network': 'none', 'fn.dev/egress': 'none' });
  });

  it('takes what the operator says of pods, and never over its own', () => {
    const pods = {
      labels: { team: 'a', 'fn.dev/instance': 'forged' },
      annotations: { note: 'b', 'fn.dev/version': 'forged' },
      nodeSelector: { disk: 'ssd' },
      tolerations: [{ key: 'fn', operator: 'Exists', effect: 'NoSchedule' }],
      priorityClassName: 'low',
      imagePullSecrets: ['pull'],
      imagePullPolicy: 'Never',
      spreadOver: null,
      cpuRequest: 3,
      cpuLimit: 1.5,
      memoryRequestRatio: 0.5,
      terminationGraceSeconds: 7,
      port: 9_000,
    };
    const { metadata, spec } = make({ sandbox: 'gvisor' }, { pods });
    expect(metadata.labels).toMatchObject({ team: 'a', 'fn.dev/instance': SPEC.id });
    expect(metadata.annotations).toMatchObject({ note: 'b', 'fn.dev/version': '1.2.3' });
    expect(spec).toMatchObject({
      runtimeClassName: 'gvisor',
      nodeSelector: pods.nodeSelector,
      tolerations: pods.tolerations,
      priorityClassName: 'low',
      imagePullSecrets: [{ name: 'pull' }],
      terminationGracePeriodSeconds: 7,
      containers: [
        {
          imagePullPolicy: 'Never',
          ports: [{ containerPort: 9_000 }],
          resources: { requests: { cpu: '1500m', memory: '128Mi' }, limits: { cpu: '1500m', memory: '256Mi' } },
        },
      ],
    });
    expect(spec).not.toHaveProperty('topologySpreadConstraints');
  });

  it('boots each runtime with the flags of its class', () => {
    const args = (runtime: string) => Reflect.get(Object(Reflect.get(Object(make({ runtime }).spec), 'containers')[0]), 'args') as unknown;
    expect(args('node')).toEqual(['--max-old-space-size=217', '/fn/shim.mjs']);
    expect(args('bun')).toEqual(['--no-install', '--smol', '/fn/bun/shim.mjs']);
    expect(args('deno')).toContain('--v8-flags=--max-old-space-size=217');
    expect(args('python')).toBeUndefined();
  });
});

describe('names of pods', () => {
  it('fit a label, and tell long installations apart', () => {
    const long = 'x'.repeat(60);
    expect(podName('fn', SPEC.id)).toBe('fn-fn-i-0123456789ab');
    expect(podName(`${long}a`, SPEC.id).length).toBeLessThanOrEqual(63);
    expect(podName(`${long}a`, SPEC.id)).not.toBe(podName(`${long}b`, SPEC.id));
  });
});
