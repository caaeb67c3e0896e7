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

/** Throws LimitBusy when more memory is in use than is allowed from now on. */
export async function applyLimits({ engine, known, spec, cpuBudget, machineCpus }: LimitRequest): Promise<void> {
  const { cgroup } = known;
  const memoryMib = spec.memoryMib === known.memoryClassMib ? null : spec.memoryMib;
  // Below a parent with a quota, the kernel refuses more than the parent has; and all of the machine needs no quota.
  const cores = Math.min(spec.cpu, cpuBudget);
  const cpu = cores >= machineCpus ? null : cores;

  const update: { Memory?: number; MemorySwap?: number; CpuPeriod?: number; CpuQuota?: number } = {};
  if (memoryMib !== null) {
    if (cgroup && (await canLimitMemory(cgroup))) await setMemoryLimit(cgroup, memoryMib);
    else {
      if (cgroup) await assertFits(cgroup, memoryMib * MIB);
      update.Memory = update.MemorySwap = memoryMib * MIB;
    }
  }
  if (cpu !== null) {
    if (cgroup && (await canLimitCpu(cgroup))) await setCpuLimit(cgroup, cpu);
    else Object.assign(update, { CpuPeriod: CPU_PERIOD_US, CpuQuota: cpuQuotaUs(cpu) });
  }
  if (Object.keys(update).length === 0) return;
  try {
    await engine.update(known.container, update);
  } catch (error) {
    if (error instanceof Error && /device or resource busy|current usage/i.test(error.message)) throw new LimitBusy(`more than ${spec.memoryMib} MiB are in use`, { cause: error });
    throw error;
  }
}
