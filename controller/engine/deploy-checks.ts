/** What a deployment is checked for before anything is started. */
import type { DeployRequest } from '#contract/api.ts';
import { FnError } from '#contract/errors.ts';
import { egressParts, memoryClass, type Egress } from '#contract/function.ts';
import type { Driver, DriverFeatures } from '../driver/types.ts';
import { quotaOf, type EngineContext } from './context.ts';
import { checkSecrets } from './secrets.ts';

/** Resolved once, at the deployment, so that a revision means the same for as long as it lives. What the person should know goes to `notes`. */
export function resolveEgress(features: DriverFeatures, wanted: Egress | null, notes: string[]): Egress {
  const { egress: can, limits, notes: why } = features;
  if (wanted === null) {
    if (can !== 'none') return resolveEgress(features, 'internet', notes);
    notes.push('Egress is none: what functions dial cannot be filtered here. The notes of `fn status` say why, and what to do.');
    return 'none';
  }
  if (wanted !== 'none' && can === 'none') {
    throw new FnError('invalid', `Functions get no egress here. ${why.join(' ')}`, {
      errors: [
        {
          pointer: '/settings/egress',
          detail: 'only none is possible here; the notes of `fn status` say what to do',
        },
      ],
    });
  }
  if (wanted === 'none' && !limits) notes.push('Egress none is not enforced by this driver: the function runs as a plain process.');
  if (Array.isArray(wanted) && wanted.some((network) => /^(?:127|169\.254)\./.test(network)))
    notes.push('Loopback and link-local addresses stay out of reach, listed or not.');
  if (wanted !== 'none' && can === 'unfiltered')
    notes.push('Egress is not filtered here: the function can dial whatever is in reach, private networks too.');
  return wanted;
}

/**
 * Throws FnError invalid where a host of a list cannot be dialled by its name. Names that nobody can look up now are noted: they may
 * be tomorrow; and so are networks that the driver keeps closed though they are listed.
 */
export async function checkHosts(driver: Pick<Driver, 'checkHosts'>, egress: Egress, notes: string[]): Promise<void> {
  if (typeof egress === 'string') return;
  const { hosts, networks } = egressParts(egress);
  const check = await driver.checkHosts(hosts, networks);
  notes.push(...check.notes);
  if (check.refused.length === 0) return;
  throw new FnError('invalid', `Egress to ${check.refused.map(({ host, why }) => `${host}: ${why}`).join('; ')}.`, {
    errors: check.refused.map(({ host, why }) => ({ pointer: `/settings/egress/${egress.indexOf(host)}`, detail: `${host}: ${why}` })),
  });
}

/** Throws FnError invalid (no such runtime, bundle, image or secret here), no-capacity or quota-exceeded (it can never fit). */
export async function checkRequest(context: EngineContext, namespace: string, request: DeployRequest): Promise<void> {
  const { settings, bundles, store, tenancy } = context;
  const wanted = request.settings;
  await checkRuntime(context, request);
  await checkSecrets(store, namespace, wanted.secrets);
  if (!(await bundles.has(request.bundle))) {
    throw new FnError('invalid', 'The bundle has not been uploaded.', {
      errors: [{ pointer: '/bundle', detail: 'PUT /v1/namespaces/NAMESPACE/bundles/DIGEST first' }],
    });
  }
  const count = Math.max(1, wanted.min);
  const quota = quotaOf(tenancy, namespace).memoryMib;
  if (quota !== null && count * wanted.memoryMib > quota)
    throw new FnError(
      'quota-exceeded',
      `${count} × ${wanted.memoryMib} MiB do not fit the quota of namespace ${namespace}: ${quota} MiB of memory.`,
    );
  if (
    Math.max(count * wanted.memoryMib, memoryClass(wanted.memoryMib)) > settings.memoryBudgetMib ||
    count * wanted.cpu > settings.cpuBudget
  ) {
    throw new FnError(
      'no-capacity',
      `${count} × ${wanted.memoryMib} MiB and ${wanted.cpu} CPU can never fit the budget of ${settings.memoryBudgetMib} MiB (FN_MEMORY_BUDGET_MIB) and ${settings.cpuBudget} CPU (FN_CPU_BUDGET).`,
    );
  }
}

const WITHOUT_SANDBOXES: Readonly<Record<string, string>> = {
  docker: 'leave it out, or have the operator install gVisor (runsc) and name it to the engine',
  kubernetes: 'leave it out, or have the operator allow it (functions.sandboxes of the chart)',
  process: 'leave it out, or start fn with --driver docker: plain processes have none',
};

/** What to do where the driver has no sandbox at all. */
export const insteadOfSandbox = (driver: string): string => WITHOUT_SANDBOXES[driver] ?? 'leave it out';

async function checkRuntime({ driver }: EngineContext, { settings, image }: DeployRequest): Promise<void> {
  const refuse = (pointer: string, detail: string, text: string) => new FnError('invalid', text, { errors: [{ pointer, detail }] });
  if (settings.runtime !== 'image' && image !== null)
    throw refuse('/image', 'only with the runtime image', `The runtime ${settings.runtime} runs a bundle, not an image.`);
  const runtimes = await driver.runtimes();
  if (!runtimes.some((runtime) => runtime.name === settings.runtime)) {
    const known = runtimes.map((runtime) => runtime.name).join(', ') || 'none';
    const text = `There is no runtime ${settings.runtime} here; there is: ${known}.`;
    // Where runtimes are programs of the machine nothing can be built.
    if (driver.name === 'process')
      throw refuse(
        '/settings/runtime',
        `one of: ${known}`,
        `${text} With plain processes a runtime is a program on the PATH of this machine: install it and start fn again, or use the docker driver.`,
      );
    throw new FnError('runtime-missing', text, { errors: [{ pointer: '/settings/runtime', detail: `one of: ${known}` }] });
  }
  if (settings.sandbox !== null && !driver.features.sandboxes.includes(settings.sandbox)) {
    const known = driver.features.sandboxes.join(', ');
    const text = known === '' ? `The ${driver.name} driver has no sandboxes here` : `There is no sandbox ${settings.sandbox} here`;
    throw refuse(
      '/settings/sandbox',
      known === '' ? insteadOfSandbox(driver.name) : `one of: ${known}`,
      `${text}${known === '' ? '.' : `; there is: ${known}.`}`,
    );
  }
  if (settings.runtime !== 'image') return;
  if (image === null) throw refuse('/image', 'the id of an image, sha256:…', 'The runtime image needs an image.');
  if (driver.images === null)
    throw refuse('/settings/runtime', 'not with this driver', `The ${driver.name} driver cannot run images; docker can.`);
  if ((await driver.images.find(image)) === null)
    throw refuse('/image', 'POST or pull it first', `There is no image ${image} here: it was not uploaded, or has been removed.`);
}
