import { describe, expect, it } from 'vitest';
import { checkRegistry, PUBLIC_REGISTRIES, registryOf } from './registries.ts';

const tenant = { id: 't-1', name: 'x', scopes: ['admin' as const], namespaces: ['b'] };
const owner = { ...tenant, namespaces: '*' as const };

describe('the registry of a reference', () => {
  it.each([
    ['node', 'docker.io'],
    ['node:24', 'docker.io'],
    ['team/app:1', 'docker.io'],
    ['docker.io/team/app', 'docker.io'],
    ['index.docker.io/team/app', 'docker.io'],
    ['ghcr.io/you/app@sha256:1', 'ghcr.io'],
    ['localhost/app', 'localhost'],
    ['127.0.0.1:5000/app', '127.0.0.1:5000'],
    ['metadata:80/app', 'metadata:80'],
    ['INSIDE/app', 'INSIDE'],
  ])('%s: %s', (reference, registry) => expect(registryOf(reference)).toBe(registry));
});

describe('checkRegistry', () => {
  it.each([
    '127.0.0.1:18481/v1/x',
    'localhost:2375/x',
    '169.254.169.254/latest',
    '10.0.0.1/x',
    'INSIDE/x',
    'ghcr.io:8443/x',
    'evil.example/x',
  ])('sends the engine to %s for who administers the platform only', (reference) => {
    expect(() => checkRegistry(reference, tenant, PUBLIC_REGISTRIES)).toThrow(/FN_REGISTRIES does not list it/);
    checkRegistry(reference, owner, PUBLIC_REGISTRIES);
    checkRegistry(reference, tenant, ['*']);
  });

  it.each(['node:24', 'ghcr.io/you/app:1', 'index.docker.io/team/app'])('%s is public', (reference) => {
    expect(() => checkRegistry(reference, tenant, PUBLIC_REGISTRIES)).not.toThrow();
  });

  it('takes the list of the operator for all that there is', () => {
    checkRegistry('registry.inside:5000/app', tenant, ['registry.inside:5000']);
    expect(() => checkRegistry('node:24', tenant, ['registry.inside:5000'])).toThrow(/registry docker\.io/);
  });
});
