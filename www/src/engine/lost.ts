// Learns of a lost graphics device from the browser itself. The engine opens its device inside the WebAssembly package and
// meets the loss only as an error of whatever it asks next; the browser tells it at once, and with its reason.

type Lost = { reason: string; message: string }
type AdapterClass = { prototype: { requestDevice(...wishes: unknown[]): Promise<{ lost: Promise<Lost> }> } }

/**
 * Calls `tell` with the browser's own words when a device that was opened after this call is lost. A device that was
 * given back on purpose (`destroyed`) is not lost. Does nothing where `adapters` is undefined: a browser without WebGPU.
 */
export function watchDevices(adapters: AdapterClass | undefined, tell: (message: string) => void): void {
  if (!adapters) return
  const open = adapters.prototype.requestDevice
  adapters.prototype.requestDevice = async function (...wishes) {
    const device = await open.apply(this, wishes)
    void device.lost.then(({ reason, message }) => {
      if (reason !== 'destroyed') tell(message)
    })
    return device
  }
}

/** The browsers' class of graphics adapters. */
export const adapters = (globalThis as unknown as { GPUAdapter?: AdapterClass }).GPUAdapter
