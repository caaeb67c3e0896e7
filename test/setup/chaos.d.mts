import type { FaultRow } from '../chaos/report.ts';

export function readFaults(file: string): FaultRow[];
export function faultTable(rows: readonly FaultRow[]): string;
export function tellFaults(file: string, root: string, full: boolean): void;
