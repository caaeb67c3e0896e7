import { expect, it } from 'vitest';
import { Health } from './health.ts';

it('one that stands by is ready while it reaches the store; who leads stays ready without', () => {
  const health = new Health();
  const said = () => Object.entries(health.checks).map(([path, check]) => `${path} ${check() ?? 'ok'}`);
  const away = ['/livez ok', '/readyz the store cannot be reached', '/leadz it does not lead'];
  expect(said()).toEqual(away);
  let reachable = false;
  health.storeIsOpen(() => reachable);
  expect(said()).toEqual(away);
  reachable = true;
  expect(said()).toEqual(['/livez ok', '/readyz ok', '/leadz it does not lead']);
  health.serves();
  expect(said()).toEqual(['/livez ok', '/readyz ok', '/leadz ok']);
  reachable = false;
  expect(said()).toEqual(['/livez ok', '/readyz ok', '/leadz ok']);
});
