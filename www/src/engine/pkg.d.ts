// What the page relies on in the WebAssembly package. Stated here so that the page's types can be checked without it.
declare module '#pkg/avascope.js' {
  type Request = import('../lib/protocol.gen').Request
  type Reply = import('../lib/protocol.gen').Reply
  export default function init(options?: { module_or_path: string | URL }): Promise<unknown>
  export class Engine {
    static new(): Engine
    handle(request: Request, buffers: Uint8Array[]): Promise<{ reply: Reply; buffers: Uint8Array[] }>
  }
}

declare module '#pkg/avascope_bg.wasm?url' {
  const address: string
  export default address
}

declare module '#engine' {
  export function newEngine(): Promise<import('./border').Engine>
}
