import { expect, it } from 'vitest';
import { VirtualClock } from '#kit/clock.ts';
import { DriverUnavailable } from '../driver/types.ts';
import { runtimesOf, urlsAt } from './status.ts';

it('tells of a driver that does not answer, or hangs, and of all else as ever', async () => {
  const clock = new VirtualClock();
  const asked = (runtimes: () => Promise<{ name: string; version: string }[]>) =>
    runtimesOf({ driver: { name: 'docker', runtimes }, clock });
  expect(await asked(async () => [{ name: 'node', version: '24' }])).toEqual({ runtimes: [{ name: 'node', version: '24' }], notes: [] });
  const away = await asked(() => Promise.reject(new DriverUnavailable('The Docker engine at /x is not running.')));
  expect(away).toEqual({
    runtimes: [],
    notes: [expect.stringContaining('docker does not answer: The Docker engine at /x is not running.')],
  });
  const hung = asked(() => new Promise(() => {}));
  clock.advance(5_000);
  expect(await hung).toEqual({ runtimes: [], notes: [expect.stringContaining('no answer within 5 s')] });
});

it('tells what is amiss with a runtime as a note', async () => {
  const runtimes = async () => [
    { name: 'node', version: '24' },
    { name: 'python', version: '3.11', image: 'fn/python:old', note: 'It is old.' },
  ];
  expect(await runtimesOf({ driver: { name: 'docker', runtimes }, clock: new VirtualClock() })).toEqual({
    runtimes: [
      { name: 'node', version: '24' },
      { name: 'python', version: '3.11', image: 'fn/python:old' },
    ],
    notes: ['It is old.'],
  });
});

it('shows where a function is, each revision of it, and each of its routes', () => {
  const urls = urlsAt('http://127.0.0.1:8080', null);
  expect(urls.function('default', 'hello')).toBe('http://127.0.0.1:8080/hello');
  expect(urls.preview('team', 'hello', 7)).toBe('http://127.0.0.1:8080/@team/hello@7');
  expect(urls.route({ path: '/users/:id' })).toBe('http://127.0.0.1:8080/users/:id');
  expect(urls.route({ host: 'api.example.com', path: '/*' })).toBe('http://api.example.com:8080/*');
});

it('shows a host with https where there is TLS and a certificate for it', () => {
  const urls = urlsAt('http://fn.test', { url: 'https://fn.test:8443', covers: (host) => host === 'a.example.com' });
  expect(urls.route({ host: 'a.example.com', path: '/' })).toBe('https://a.example.com:8443/');
  expect(urls.route({ host: 'b.example.com', path: '/' })).toBe('http://b.example.com/');
  expect(urlsAt('http://fn.test', { url: 'https://fn.test', covers: () => true }).route({ host: 'a.example.com', path: '/' })).toBe(
    'https://a.example.com/',
  );
});
