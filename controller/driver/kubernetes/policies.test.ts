import { beforeEach, describe, expect, it } from 'vitest';
import { VirtualClock } from '#kit/clock.ts';
import { FakeKube } from '../../kube/fake.ts';
import { NETWORK_POLICIES } from '../../kube/resources.ts';
import { KubernetesSettings } from '../../kube/settings.ts';
import { basePolicies, egressHash, listPolicy, Policies, policyName } from './policies.ts';
import { resizePatch, resizingOf } from './resize.ts';

const OWNER = { name: 'fn-owner', uid: 'owner-uid' };
const settings = KubernetesSettings.parse({
  installation: 'x',
  namespace: 'ns',
  networkPolicies: 'enforced',
  internalCidrs: ['52.1.0.0/16', '2600:1::/32', 'fd00::/8'],
});

describe('network policies', () => {
  it('allow nothing to all, and what is public to those labelled so', () => {
    expect(basePolicies(settings, OWNER)).toMatchInlineSnapshot(`
      [
        {
          "apiVersion": "networking.k8s.io/v1",
          "kind": "NetworkPolicy",
          "metadata": {
            "labels": {
              "app.kubernetes.io/managed-by": "fn",
              "fn.dev/egress": "deny",
              "fn.dev/installation": "x",
            },
            "name": "fn-x-egress-deny",
            "namespace": "ns",
            "ownerReferences": [
              {
                "apiVersion": "v1",
                "blockOwnerDeletion": false,
                "kind": "ConfigMap",
                "name": "fn-owner",
                "uid": "owner-uid",
              },
            ],
          },
          "spec": {
            "egress": [],
            "podSelector": {
              "matchExpressions": [
                {
                  "key": "fn.dev/instance",
                  "operator": "Exists",
                },
              ],
              "matchLabels": {
                "fn.dev/installation": "x",
              },
            },
            "policyTypes": [
              "Egress",
            ],
          },
        },
        {
          "apiVersion": "networking.k8s.io/v1",
          "kind": "NetworkPolicy",
          "metadata": {
            "labels": {
              "app.kubernetes.io/managed-by": "fn",
              "fn.dev/egress": "internet",
              "fn.dev/installation": "x",
            },
            "name": "fn-x-egress-internet",
            "namespace": "ns",
            "ownerReferences": [
              {
                "apiVersion": "v1",
                "blockOwnerDeletion": false,
                "kind": "ConfigMap",
                "name": "fn-owner",
                "uid": "owner-uid",
              },
            ],
          },
          "spec": {
            "egress": [
              {
                "ports": [
                  {
                    "port": 53,
                    "protocol": "UDP",
                  },
                  {
                    "port": 53,
                    "protocol": "TCP",
                  },
                ],
                "to": [
                  {
                    "namespaceSelector": {},
                    "podSelector": {
                      "matchLabels": {
                        "k8s-app": "kube-dns",
                      },
                    },
                  },
                  {
                    "ipBlock": {
                      "cidr": "169.254.20.10/32",
                    },
                  },
                ],
              },
              {
                "to": [
                  {
                    "ipBlock": {
                      "cidr": "0.0.0.0/0",
                      "except": [
                        "0.0.0.0/8",
                        "127.0.0.0/8",
                        "169.254.0.0/16",
                        "224.0.0.0/4",
                        "240.0.0.0/4",
                        "10.0.0.0/8",
                        "100.64.0.0/10",
                        "172.16.0.0/12",
                        "192.0.0.0/24",
                        "192.168.0.0/16",
                        "198.18.0.0/15",
                        "52.1.0.0/16",
                      ],
                    },
                  },
                  {
                    "ipBlock": {
                      "cidr": "2000::/3",
                      "except": [
                        "2001::/32",
                        "2001:db8::/32",
                        "2002::/16",
                        "2600:1::/32",
                      ],
                    },
                  },
                ],
              },
            ],
            "podSelector": {
              "matchLabels": {
                "fn.dev/egress": "internet",
                "fn.dev/installation": "x",
              },
            },
            "policyTypes": [
              "Egress",
            ],
          },
        },
      ]
    `);
  });

  it('are the same for equal lists, and never open what nobody may dial', () => {
    expect(egressHash(['10.0.0.0/8', '1.2.3.4', '10.0.0.0/8'])).toBe(egressHash(['1.2.3.4', '10.0.0.0/8']));
    const { spec } = listPolicy(settings, OWNER, ['0.0.0.0/0', '169.254.169.254', '10.0.0.0/8', '127.0.0.0/8', '1.2.3.4']);
    const rules: unknown = Reflect.get(Object(spec), 'egress');
    expect(Array.isArray(rules) && rules[1]).toEqual({
      to: [
        { ipBlock: { cidr: '0.0.0.0/0', except: ['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/4', '240.0.0.0/4'] } },
        { ipBlock: { cidr: '1.2.3.4/32' } },
        { ipBlock: { cidr: '10.0.0.0/8' } },
      ],
    });
  });

  it('open nothing but names where all of a list is never to be dialled', () => {
    const { spec } = listPolicy(settings, OWNER, ['169.254.169.254']);
    expect(Reflect.get(Object(spec), 'egress')).toHaveLength(1);
  });
});

describe('policies of lists', () => {
  const kube = { api: new FakeKube() };
  const clock = new VirtualClock();
  const used = new Set<string>();
  let policies: Policies;
  const names = async () => (await kube.api.list(NETWORK_POLICIES, 'ns')).items.map(({ metadata }) => metadata.name).toSorted();
  const base = ['fn-x-egress-deny', 'fn-x-egress-internet'];

  beforeEach(async () => {
    kube.api = new FakeKube();
    used.clear();
    policies = new Policies({ api: kube.api, settings, clock, inUse: () => used });
    await policies.start(OWNER);
  });

  it('are made once, whoever asks at once', async () => {
    expect(await names()).toEqual(base);
    const hashes = await Promise.all([
      policies.ensure(['10.1.0.0/16']),
      policies.ensure(['10.1.0.0/16']),
      policies.ensure(['10.2.0.0/16']),
    ]);
    expect(await names()).toEqual([...base, policyName('x', hashes[0]), policyName('x', hashes[2])].toSorted());
    expect(kube.api.requests.get('create')).toBe(4);
    // The next controller finds them.
    const next = new Policies({ api: kube.api, settings, clock, inUse: () => used });
    await next.start(OWNER);
    await next.ensure(['10.1.0.0/16']);
    expect(kube.api.requests.get('create')).toBe(4);
  });

  it('go when nobody has used them for a while, and not before', async () => {
    const hash = await policies.ensure(['10.1.0.0/16']);
    used.add(hash);
    clock.advance(3_600_000);
    await policies.look();
    expect(await names()).toContain(policyName('x', hash));
    used.clear();
    clock.advance(599_000);
    await policies.look();
    expect(await names()).toContain(policyName('x', hash));
    clock.advance(2_000);
    await policies.look();
    expect(await names()).toEqual(base);
    await policies.ensure(['10.1.0.0/16']);
    expect(await names()).toContain(policyName('x', hash));
  });

  it('are put back where others removed what all need, and all removed in the end', async () => {
    await kube.api.delete(NETWORK_POLICIES, 'ns', base[0]!);
    await policies.look();
    expect(await names()).toEqual(base);
    await policies.destroyAll();
    expect(await names()).toEqual([]);
  });

  it('are tried again after a failure', async () => {
    kube.api.fault = (verb) => (verb === 'create' ? Promise.reject(new Error('away')) : undefined);
    await expect(policies.ensure(['10.1.0.0/16'])).rejects.toThrow('away');
    kube.api.fault = null;
    const hash = await policies.ensure(['10.1.0.0/16']);
    expect(await names()).toContain(policyName('x', hash));
  });
});

describe('limits of a pod that runs', () => {
  const limits = { memoryClassMib: 256, memoryMib: 200, cpu: 0.5 };
  it('are changed as far as the cluster can', () => {
    expect(resizePatch(resizingOf({ major: 1, minor: 20 }), settings, limits)).toBeNull();
    const resources = (minor: number, of = limits) => resizePatch(resizingOf({ major: 1, minor }), settings, of);
    expect(resources(33)).toEqual({ spec: { containers: [{ name: 'instance', resources: { limits: { cpu: '500m' }, requests: {} } }] } });
    expect(resources(34)).toEqual({
      spec: { containers: [{ name: 'instance', resources: { limits: { cpu: '500m', memory: '200Mi' }, requests: { memory: '200Mi' } } }] },
    });
    expect(resources(35, { memoryClassMib: 256, memoryMib: 256, cpu: 2 })).toBeNull();
    // A request above its limit would be refused.
    expect(resources(33, { ...limits, cpu: 0.01 })).toMatchObject({ spec: { containers: [{ resources: { requests: { cpu: '10m' } } }] } });
  });
});
