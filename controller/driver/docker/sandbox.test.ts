import { describe, expect, it } from 'vitest';
import { ociRuntimeOf, sandboxesOf } from './sandbox.ts';

const engine = (runtimes: Record<string, string[]>) => ({ ociRuntimes: new Map(Object.entries(runtimes)) });

describe('sandboxes of an engine', () => {
  it('offers gvisor where the engine has runsc and lets it make sockets', () => {
    expect(sandboxesOf(engine({ runc: [], runsc: ['--platform=ptrace', '--host-uds=create'] }))).toEqual({ names: ['gvisor'], notes: [] });
    expect(sandboxesOf(engine({ runsc: ['-host-uds=all'] })).names).toEqual(['gvisor']);
  });

  it('says what to do where runsc would keep its sockets to itself', () => {
    const { names, notes } = sandboxesOf(engine({ runsc: ['--host-uds=open'] }));
    expect(names).toEqual([]);
    expect(notes).toEqual([expect.stringContaining('add it to its runtimeArgs in /etc/docker/daemon.json')]);
  });

  it('offers no other runtime, whatever the engine has', () => {
    expect(sandboxesOf(engine({ runc: [], nvidia: [], 'runsc-debug': ['--host-uds=create'] }))).toEqual({ names: [], notes: [] });
  });

  it('knows no runtime for a name that it does not offer, nor for one of Object’s', () => {
    expect(ociRuntimeOf('gvisor')).toBe('runsc');
    for (const name of ['runc', 'constructor']) expect(() => ociRuntimeOf(name)).toThrow(/no sandbox .* there is: gvisor/);
  });
});
