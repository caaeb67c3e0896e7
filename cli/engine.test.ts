import { expect, it } from 'vitest';
import { findEngine } from './engine.ts';

it('of a DOCKER_HOST that names a socket that is not there says that, and not that an engine is to be installed', async () => {
  expect(await findEngine({ DOCKER_HOST: 'unix:///nonexistent/docker.sock' })).toMatchObject({
    kind: 'absent',
    where: 'unix:///nonexistent/docker.sock',
    detail: 'DOCKER_HOST names a socket that is not there',
    remedy: expect.stringMatching(/^set DOCKER_HOST .*unset it/),
  });
});
