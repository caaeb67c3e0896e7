import { expect, it } from 'vitest';
import { urlsAt } from './status.ts';

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
