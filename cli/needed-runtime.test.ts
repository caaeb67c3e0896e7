import { describe, expect, it } from 'vitest';
import { CliError } from './errors.ts';
import { withRuntime } from './needed-runtime.ts';

const missing = () => new CliError('There is no runtime python here', { code: 'runtime-missing' });

describe('withRuntime', () => {
  it('is silent where the runtime is there', async () => {
    const said: string[] = [];
    expect(
      await withRuntime('python', { client: { isLocal: true }, env: {}, say: (line) => said.push(line) }, async () => 'deployed'),
    ).toBe('deployed');
    expect(said).toEqual([]);
  });

  it.each([
    ['a platform elsewhere', { client: { isLocal: false }, env: {} }],
    ['nothing to build with', { client: { isLocal: true } }],
  ])('%s: the error stands, after one try', async (_what, surroundings) => {
    let tries = 0;
    const attempt = async () => {
      tries += 1;
      throw missing();
    };
    await expect(withRuntime('python', { ...surroundings, say: () => undefined }, attempt)).rejects.toThrow(
      'There is no runtime python here',
    );
    expect(tries).toBe(1);
  });

  it('another error is not the runtime’s', async () => {
    const attempt = async () => {
      throw new CliError('no', { code: 'quota-exceeded' });
    };
    await expect(withRuntime('python', { client: { isLocal: true }, env: {}, say: () => undefined }, attempt)).rejects.toThrow('no');
  });

  it('says that it builds, and why it could not', async () => {
    const said: string[] = [];
    const env = { PATH: '', DOCKER_HOST: 'unix:///nowhere' };
    const attempt = async () => {
      throw missing();
    };
    await expect(withRuntime('nowhere', { client: { isLocal: true }, env, say: (line) => said.push(line) }, attempt)).rejects.toThrow(
      'no runtime is called nowhere',
    );
    // What it ends with is the error, and is not said beside it.
    expect(said).toEqual(['runtime nowhere is not built yet: building it, once']);
  });
});
