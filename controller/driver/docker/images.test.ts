import { describe, expect, it } from 'vitest';
import { imageProgram } from './image-program.ts';
import { volumesOf } from './images.ts';

const image = (...volumes: string[]) => ({
  Config: { Volumes: Object.fromEntries(volumes.map((path) => [path, {}])) } as Parameters<typeof volumesOf>[0]['Config'],
});

describe('volumes that an image declares', () => {
  it('are each a mount of ours, however they are written: the engine would give them the disk of the host', () => {
    expect(volumesOf(image('/data', '/var/lib/x/', '/./etc', '/tmp/x', 'relative', '/data/', '/fnord'))).toEqual([
      '/data',
      '/var/lib/x',
      '/etc',
      '/tmp/x',
      '/relative',
      '/fnord',
    ]);
    expect(volumesOf(image('/tmp', '/tmp/'))).toEqual([]);
    expect(volumesOf(image())).toEqual([]);
  });

  it.each(['/fn', '/fn/data', '/x/../fn/sock', '//fn', '/', '/proc/self', '/sys', 'dev/shm'])('%s belongs to the platform', (path) =>
    expect(() => volumesOf(image('/data', path))).toThrow(/belongs to the platform/),
  );

  it('are so many at most', () => {
    const paths = Array.from({ length: 17 }, (_, index) => `/v${index}`);
    expect(volumesOf(image(...paths.slice(1)))).toHaveLength(16);
    expect(() => volumesOf(image(...paths))).toThrow(/declares 17 volumes; it may have 16/);
  });
});

describe('the program of an image', () => {
  type Config = Parameters<typeof imageProgram>[0]['Config'];
  const config = (folder: string | undefined) => {
    const said: Partial<Config> = { Entrypoint: ['./server'], Cmd: ['-v'], ExposedPorts: { '9000/tcp': {} } };
    if (folder !== undefined) said.WorkingDir = folder;
    return said as Config;
  };

  it.each([
    ['/app', '/app'],
    ['srv/../app/', '/app'],
    ['../../-port', '/-port'],
    ['', '/'],
    [undefined, '/'],
  ])('with the WORKDIR %j is started by the shim in %s', (folder, expected) => {
    expect(imageProgram({ Config: config(folder) }, '/shim').args).toEqual(['-port', '9000', '-dir', expected, '--', './server', '-v']);
  });
});
