/** Frameworks of python, as they are: their applications are functions. */
import { describe, expect, it } from 'vitest';
import { vendor } from '../helpers/python-packages.ts';
import { waitFor } from '../helpers/wait.ts';
import { frame, openWebSocket, OPCODE } from '../helpers/websocket.ts';
import { gatewayHeaders, lineWith, startShim } from './runtime-harness.ts';
import { folderOf } from './runtime-python.fixture.ts';
import { PYTHON } from './runtime-table.ts';

describe('unmodified', () => {
  it('Flask', async () => {
    const code = folderOf({
      'app.py': `
import logging
from flask import Flask, Response, jsonify, request, session, url_for
app = Flask(__name__)
app.secret_key = "k"
@app.get("/hi/<name>")
def hi(name):
    app.logger.warning("greeting %s", name)
    return jsonify(name=name, q=request.args.get("q"), url=url_for("hi", name=name), ip=request.remote_addr)
@app.post("/json")
def post(): return request.get_json(), 201
@app.post("/upload")
def upload(): return str(len(request.files["f"].read()))
@app.get("/stream")
def stream(): return Response((f"{n}\\n" for n in range(3)), mimetype="text/plain")
@app.get("/visits")
def visits():
    session["n"] = session.get("n", 0) + 1
    return str(session["n"])
@app.get("/throw")
def throw(): raise RuntimeError("flask raises")
`,
    });
    await vendor('flask', code);
    const shim = await startShim(PYTHON);
    expect(await shim.become('app.py', { code })).toMatchObject({ form: 'wsgi', slots: 10 });
    const hi = await shim.call('GET', '/hi/ann?q=1', { headers: { ...gatewayHeaders('f-1'), 'x-forwarded-prefix': '/site' } });
    expect(hi.json()).toEqual({ name: 'ann', q: '1', url: '/site/hi/ann', ip: '203.0.113.9' });
    expect(await lineWith(shim, 'greeting ann')).toMatchObject({ level: 'warn', req: 'f-1' });
    const posted = await shim.call('POST', '/json', { body: '{"a":1}', headers: { 'content-type': 'application/json' } });
    expect([posted.status, posted.json()]).toEqual([201, { a: 1 }]);
    const multipart = '--b\r\ncontent-disposition: form-data; name="f"; filename="f"\r\n\r\n12345\r\n--b--\r\n';
    const headers = { 'content-type': 'multipart/form-data; boundary=b', 'transfer-encoding': 'chunked' };
    expect((await shim.call('POST', '/upload', { body: multipart, headers })).text).toBe('5');
    expect((await shim.call('GET', '/stream')).text).toBe('0\n1\n2\n');
    const first = await shim.call('GET', '/visits');
    const cookie = first.headers['set-cookie']![0]!.split(';')[0]!;
    expect((await shim.call('GET', '/visits', { headers: { cookie } })).text).toBe('2');
    expect((await shim.call('GET', '/throw', { headers: gatewayHeaders('f-2') })).status).toBe(500);
    expect(await lineWith(shim, 'flask raises')).toMatchObject({ level: 'error', req: 'f-2' });
    expect((await shim.call('HEAD', '/stream')).status).toBe(200);
    expect((await shim.call('GET', '/missing')).status).toBe(404);
  });

  it('FastAPI', async () => {
    const code = folderOf({
      'main.py': `
from fastapi import BackgroundTasks, FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
import asyncio
class Item(BaseModel):
    name: str
    price: float
ready = []
app = FastAPI()
@app.on_event("startup")
async def startup(): ready.append("started")
@app.on_event("shutdown")
async def shutdown(): print("shut down")
@app.get("/hi/{name}")
async def hi(name: str, request: Request, q: int = 0): return {"name": name, "q": q, "ready": ready, "ip": request.client.host, "scheme": request.url.scheme}
@app.post("/items", status_code=201)
def items(item: Item): return item
@app.get("/stream")
async def stream():
    async def pieces():
        for n in range(3):
            yield f"{n}\\n"
            await asyncio.sleep(0)
    return StreamingResponse(pieces(), media_type="text/plain")
@app.get("/later")
def later(tasks: BackgroundTasks):
    tasks.add_task(lambda: print("in the background"))
    return "ok"
@app.get("/throw")
def throw(): raise RuntimeError("fastapi raises")
@app.websocket("/ws")
async def ws(socket: WebSocket):
    await socket.accept()
    while True: await socket.send_text("echo " + await socket.receive_text())
`,
    });
    await vendor('fastapi', code);
    const shim = await startShim(PYTHON);
    expect(await shim.become('main.py', { code })).toMatchObject({ form: 'asgi', slots: 50 });
    expect((await shim.call('GET', '/hi/ann?q=7', { headers: gatewayHeaders('a-1') })).json()).toEqual({
      name: 'ann',
      q: 7,
      ready: ['started'],
      ip: '203.0.113.9',
      scheme: 'https',
    });
    const post = (body: string) => shim.call('POST', '/items', { body, headers: { 'content-type': 'application/json' } });
    const made = await post('{"name":"x","price":"1.5"}');
    expect([made.status, made.json()]).toEqual([201, { name: 'x', price: 1.5 }]);
    expect((await post('{"name":"x"}')).status).toBe(422);
    expect((await shim.call('GET', '/stream')).text).toBe('0\n1\n2\n');
    expect((await shim.call('GET', '/later', { headers: gatewayHeaders('a-2') })).json()).toBe('ok');
    expect(await lineWith(shim, 'in the background')).toMatchObject({ req: 'a-2' });
    expect((await shim.call('GET', '/throw', { headers: gatewayHeaders('a-3') })).status).toBe(500);
    expect(await lineWith(shim, 'fastapi raises')).toMatchObject({ level: 'error', req: 'a-3' });
    expect((await shim.call('GET', '/openapi.json')).status).toBe(200);
    const socket = await openWebSocket(shim.address, '/ws');
    socket.send(frame(OPCODE.text, 'hello'));
    expect((await socket.frame()).payload.toString()).toBe('echo hello');
    socket.destroy();
    await waitFor('the slot', async () => (await shim.health()).inFlight === 0);
    shim.signal('SIGTERM');
    expect(await shim.exited).toEqual({ code: 0, signal: null });
    await lineWith(shim, 'shut down');
  });
});
