/** The exact limits of an instance, set when it is specialised: by its cgroup's files, or through the engine where they cannot be written. */
import { LimitBusy, type SpecialiseSpec } from '../types.ts';
import { CPU_PERIOD_US, assertFits, canLimitCpu, canLimitMemory, cpuQuotaUs, setCpuLimit, setMemoryLimit } from './cgroup.ts';
import type { Engine } from './engine.ts';
import type { Known } from './instance.ts';

const MIB = 1024 * 1024;

export interface LimitRequest {
  engine: Engine;
  known: Known;
  spec: Pick<SpecialiseSpec, 'memoryMib' | 'cpu'>;
  cpuBudget: number;
  machineCpus: number;
}

interface Update {
  Memory?: number;
  MemorySwap?: number;
  CpuPeriod?: number;
  CpuQuota?: number;
}

/** Throws LimitBusy when more memory is in use than is allowed from now on. */
export async function applyLimits(request: LimitRequest): Promise<void> {
  const { engine, known, spec } = request;
  const cpu = limitCpu(request);
  const update: Update = { ...(await limitMemory(request)), ...cpu };
  if (Object.keys(update).length === 0) return;
  try {
    await engine.update(known.container, update);
  } catch (error) {
    if (error instanceof Error && /device or resource busy|current usage/i.test(error.message)) {
      throw new LimitBusy(`more than ${spec.memoryMib} MiB are in use`, { cause: error });
    }
    throw error;
  }
}

/** Sets it, or returns what the engine is to be asked for. */
async function limitMemory({ known, spec: { memoryMib } }: LimitRequest): Promise<Update> {
  const { cgroup, memoryClassMib } = known;
  if (memoryMib === memoryClassMib) return {};
  if (cgroup && (await canLimitMemory(cgroup))) {
    await setMemoryLimit(cgroup, memoryMib);
    return {};
  }
  if (cgroup) await assertFits(cgroup, memoryMib * MIB);
  return { Memory: memoryMib * MIB, MemorySwap: memoryMib * MIB };
}

function limitCpu({ known: { cgroup }, spec, cpuBudget, machineCpus }: LimitRequest): Update {
  // Below a parent with a quota, the kernel refuses more than the parent has; and all of the machine needs no quota.
  const cores = Math.min(spec.cpu, cpuBudget);
  if (cores >= machineCpus) return {};
  if (cgroup && canLimitCpu(cgroup)) {
    setCpuLimit(cgroup, cores);
    return {};
  }
  return { CpuPeriod: CPU_PERIOD_US, CpuQuota: cpuQuotaUs(cores) };
}
