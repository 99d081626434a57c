// A static server for the built page, so that the tests see it as any static host would give it.
import { createReadStream } from 'node:fs';
import { realpath, stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, sep } from 'node:path';

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.mjs': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.wasm': 'application/wasm',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.ico': 'image/x-icon',
  '.woff2': 'font/woff2',
};

async function fileFor(root, url) {
  let path = join(root, decodeURIComponent(new URL(url, 'http://localhost').pathname));
  if ((await stat(path)).isDirectory()) path = join(path, 'index.html');
  path = await realpath(path);
  if (!path.startsWith(root + sep)) throw new Error('outside of the served folder');
  return { path, size: (await stat(path)).size };
}

/** Serves `folder` on a free port of the loopback address: `{ url, close() }`. */
export async function serve(folder) {
  const root = await realpath(folder);
  const server = createServer(async (request, response) => {
    let file;
    try {
      file = await fileFor(root, request.url);
    } catch {
      response.writeHead(404, { 'Content-Type': 'text/plain' }).end('no such file\n');
      return;
    }
    response.writeHead(200, {
      'Content-Type': TYPES[extname(file.path)] ?? 'application/octet-stream',
      'Content-Length': file.size,
      'Cache-Control': 'no-store',
    });
    if (request.method === 'HEAD') response.end();
    else createReadStream(file.path).on('error', () => response.destroy()).pipe(response);
  });
  await new Promise((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    close: () =>
      new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      }),
  };
}
