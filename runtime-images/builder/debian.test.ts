import { describe, expect, it } from 'vitest';
import { debianSources } from './debian.ts';

describe('the machine’s own apt sources', () => {
  it('of Debian itself are taken, in both formats; nothing else is', () => {
    const list = [
      '# deb http://debian.example/debian bookworm main',
      'deb [arch=amd64] http://mirror.example/debian/ bookworm main contrib',
      'deb http://debian.example/debian-security bookworm-security main',
      'deb http://debian.example/debian bookworm-backports main',
      'deb https://packages.example/tool bookworm main',
      'deb-src http://debian.example/debian bookworm main',
    ].join('\n');
    const sources = [
      'Types: deb deb-src\nURIs: http://debian.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg',
      'Types: deb\nURIs: http://off.example/debian\nSuites: bookworm\nComponents: main\nEnabled: no',
      'Types: deb\nURIs: https://deb.example/node_20.x\nSuites: nodistro\nComponents: main',
    ].join('\n\n');
    expect(debianSources('bookworm', [list, sources])).toEqual([
      'deb [arch=amd64] http://mirror.example/debian/ bookworm main contrib',
      'deb http://debian.example/debian-security bookworm-security main',
      'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://debian.example/debian bookworm main',
      'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://debian.example/debian bookworm-updates main',
    ]);
  });
});
