/** Functions in Python, deployed and called as users do: each form, its errors, its limits, its packages. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { vendor } from '../helpers/python-packages.ts';
import { drivers, onlyOn, usePlatform } from '../helpers/suite.ts';
import { waitFor } from '../helpers/wait.ts';

const PLAIN = `
import os, sys, time
held = []
def main(request, ctx):
    match request.path:
        case "/stream":
            def pieces():
                for n in range(3):
                    yield f"piece {n}\\n"
                    time.sleep(0.01)
            return pieces()
        case "/log":
            print("a line of", ctx.request_id)
            return "logged"
        case "/raise": raise ValueError("secret detail")
        case "/exit": os._exit(7)
        case "/eat":
            while True: held.append(bytearray(os.urandom(1 << 20)))
        case "/echo": return request.stream(), 200, {"content-type": "text/plain"}
        case "/env": return dict(os.environ)
    return f"hello {request.args.get('name', 'world')}"
`;

const HANDLER = `
def handler(event, context):
    return {"statusCode": 201, "headers": {"x-id": context.aws_request_id}, "cookies": ["a=1"], "body": event["rawPath"] + event.get("body", "")}
`;

const FLASK = `
from flask import Flask, url_for
site = Flask(__name__)
@site.get("/where")
def where(): return url_for("where")
`;

const FASTAPI = `
from fastapi import FastAPI
app = FastAPI()
@app.get("/items/{number}")
async def item(number: int): return {"number": number}
`;

/** Makes a wheel; nothing checks its RECORD. */
const WHEEL = `import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as z:
    z.writestr("tiny.py", "answer = 'from a wheel'\\n")
    z.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n")
    z.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    z.writestr("tiny-1.0.dist-info/RECORD", "tiny.py,,\\n")`;

describe.each(drivers('docker', 'process'))('python (%s)', (driver) => {
  const platform = usePlatform({ driver, upFlags: driver === 'docker' ? ['--runtimes', 'python'] : [] });
  const logsOf = async (name: string) => (await platform().fnOk(['logs', name, '--json'])).stdout;

  it('a plain function answers, streams, reads its body, and logs under the request’s id', async () => {
    const deployed = await platform().deploy('plain', PLAIN, { file: 'main.py' });
    expect(deployed.stderr).toMatch(/function/);
    expect((await platform().call('/plain?name=ann')).text).toBe('hello ann');
    expect((await platform().call('/plain/stream')).text).toBe('piece 0\npiece 1\npiece 2\n');
    expect((await platform().call('/plain/echo', { method: 'POST', body: 'x'.repeat(300_000) })).text).toHaveLength(300_000);
    const id = (await platform().call('/plain/log')).headers['x-request-id'];
    await waitFor('the line', async () => (await logsOf('plain')).includes(`a line of ${String(id)}`), { everyMs: 200 });
    const env = (await platform().call('/plain/env')).text;
    expect(env).toContain('"FN_FUNCTION": "plain"');
    expect(env).not.toMatch(/FN_NONCE|FN_SOCKET|FN_HOME/);
  });

  it('what it raises is told without its message, an end is a crash, and the next request works', async () => {
    const raised = await platform().call('/plain/raise');
    expect([raised.status, raised.json<{ code: string }>().code]).toEqual([500, 'function-error']);
    expect(raised.text).not.toContain('secret detail');
    await waitFor('the log', async () => /File \\"main\.py\\", line \d+/.test(await logsOf('plain')), { everyMs: 200 });
    const ended = await platform().call('/plain/exit');
    expect([ended.status, ended.json<{ code: string }>().code]).toEqual([502, 'function-crashed']);
    expect((await platform().call('/plain')).text).toBe('hello world');
  });

  it('a Lambda handler has API Gateway’s event', async () => {
    await platform().deploy('lambda', HANDLER, { file: 'handler.py' });
    const answer = await platform().call('/lambda/a/b', { method: 'POST', body: '!' });
    expect([answer.status, answer.text]).toEqual([201, '/a/b!']);
    expect(answer.headers['x-id']).toBe(answer.headers['x-request-id']);
  });

  it('a deployment that fails to load says where', async () => {
    const failed = await platform().deploy('broken', 'import json\n\n\nraise KeyError("no such key")\n', {
      file: 'main.py',
      mayFail: true,
    });
    expect(failed.code).toBe(1);
    expect(failed.stderr).toMatch(/main\.py:4: KeyError: 'no such key'/);
  });
});

// What takes longer, and what only the kernel can hold: once is enough.
describe.each(onlyOn('docker'))('python: frameworks, packages, limits (%s)', (driver) => {
  const platform = usePlatform({ driver, upFlags: ['--runtimes', 'python'] });

  it('Flask by its object, and FastAPI by its folder, as they are', async () => {
    const flask = platform().write(FLASK, 'web.py');
    await vendor('flask', join(flask, '..'));
    await platform().fnOk(['deploy', `${flask}:site`, '--name', 'flask']);
    expect((await platform().call('/flask/where')).text).toBe('/flask/where');
    const fastapi = join(platform().write(FASTAPI, 'main.py'), '..');
    await vendor('fastapi', fastapi);
    await platform().fnOk(['deploy', fastapi, '--name', 'fastapi', '--memory', '256']);
    expect((await platform().call('/fastapi/items/7')).json()).toEqual({ number: 7 });
    expect((await platform().call('/fastapi/items/x')).status).toBe(422);
  });

  it('requirements.txt is installed from an index when it is deployed', async () => {
    const folder = join(platform().write('import tiny\ndef main(request): return tiny.answer\n', 'main.py'), '..');
    writeFileSync(join(folder, 'requirements.txt'), 'tiny\n');
    const wheels = join(platform().home, 'wheels');
    mkdirSync(wheels);

    const wheel = join(wheels, 'tiny-1.0-py3-none-any.whl');
    execFileSync('python3', ['-c', WHEEL, wheel]);
    const server = createServer((req, res) => {
      if (req.url?.endsWith('.whl')) res.end(readFileSync(wheel));
      else res.setHeader('content-type', 'text/html').end('<a href="/tiny-1.0-py3-none-any.whl">tiny-1.0-py3-none-any.whl</a>');
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void server.close());
    const index = `http://127.0.0.1:${(server.address() as AddressInfo).port}/simple/`;
    await platform().fnOk(['deploy', folder, '--name', 'packaged'], {
      env: { PIP_INDEX_URL: index, PIP_NO_CACHE_DIR: '1', XDG_CACHE_HOME: join(platform().home, 'cache') },
    });
    expect((await platform().call('/packaged')).text).toBe('from a wheel');
  });

  it('out of memory is told apart, and comes from the pool the second time', async () => {
    await platform().deploy('plain', PLAIN, { file: 'main.py' });
    const eaten = await platform().call('/plain/eat');
    expect([eaten.status, eaten.json<{ code: string }>().code]).toEqual([502, 'function-oom']);
    expect((await platform().call('/plain')).text).toBe('hello world');
    const listed = (await platform().fnOk(['runtimes', 'list'])).stdout;
    expect(listed).toMatch(/python\s+3\.11\.\d+\s+fn\/python:/);
  });
});
