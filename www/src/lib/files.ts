// Files a person gives: sizes first, then bytes.

/** wasm32 addresses 4 GiB, and a single buffer holds about 2: a larger model cannot be opened in a page. */
export const MOST_BYTES = 2 * 1024 ** 3
/** A small archive can unpack to anything; rows beyond this belong on the command line. */
export const MOST_UNPACKED = 512 * 1024 ** 2

const mebibytes = (bytes: number) => `${Math.ceil(bytes / 1024 ** 2).toLocaleString('en')} MiB`

/** A failure of `work` that names none of the files it is about gets their names in front. */
export async function naming<T>(names: string[], work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    if (!(error instanceof Error) || names.some((name) => error.message.includes(name))) throw error
    // What else fails is the weights': the other files are named by whoever reads them.
    const weights = names.filter((name) => /\.(safetensors|gguf|bin)$/i.test(name))
    error.message = `${(weights.length ? weights : names).join(', ')}: ${error.message}`
    throw error
  }
}

export async function readModel(files: File[]): Promise<Uint8Array[]> {
  const total = files.reduce((sum, file) => sum + file.size, 0)
  if (total > MOST_BYTES) {
    throw new Error(`These files hold ${mebibytes(total)}, and a page can hold about ${mebibytes(MOST_BYTES)}. Take a smaller model, or the avascope command.`)
  }
  const out: Uint8Array[] = []
  for (const file of files) out.push(new Uint8Array(await file.arrayBuffer()))
  return out
}

/** What a folder holds beside its subfolders that a model can be made of. Weights in PyTorch's own format beside a config.json are the same model once more, in a form that is not read here. */
export function modelFiles(files: File[]): File[] {
  const top = files.filter((file) => file.webkitRelativePath.split('/').length <= 2)
  const named = (pattern: RegExp) => (file: File) => pattern.test(file.name)
  const hub = top.some(named(/^config\.json$/))
  return top.filter(named(hub ? /^[^.].*\.(safetensors|json|jinja|txt|model)$/i : /^[^.].*\.(safetensors|json|gguf|jinja|txt|bin|model)$/i))
}

/** The files of the folders among what was dropped, or nothing where no folder was. */
export async function droppedFolders(items: DataTransferItemList): Promise<File[] | undefined> {
  // Asked for at once: the list is emptied when the event is over.
  const entries = [...items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null)
  if (!entries.some((entry) => entry.isDirectory)) return undefined
  const file = (entry: FileSystemFileEntry) => new Promise<File>((done, failed) => entry.file(done, failed))
  const files: File[] = []
  for (const entry of entries) {
    const inside = entry.isDirectory ? await listed(entry as FileSystemDirectoryEntry) : [entry]
    for (const one of inside) if (one.isFile) files.push(await file(one as FileSystemFileEntry))
  }
  return files
}

/** A folder's entries, which come in parts. */
async function listed(folder: FileSystemDirectoryEntry): Promise<FileSystemEntry[]> {
  const reader = folder.createReader()
  const all: FileSystemEntry[] = []
  for (;;) {
    const part = await new Promise<FileSystemEntry[]>((done, failed) => reader.readEntries(done, failed))
    if (!part.length) return all
    all.push(...part)
  }
}

/** The rows' bytes, unpacked where the name ends in .gz. */
export async function readData(file: File, mostUnpacked = MOST_UNPACKED): Promise<Uint8Array> {
  if (file.size > MOST_UNPACKED) throw new Error(`${file.name} holds ${mebibytes(file.size)}; the page takes up to ${mebibytes(MOST_UNPACKED)} of rows.`)
  if (!file.name.endsWith('.gz')) return new Uint8Array(await file.arrayBuffer())
  const reader = file.stream().pipeThrough(new DecompressionStream('gzip')).getReader()
  const parts: Uint8Array[] = []
  let size = 0
  for (;;) {
    const { done, value } = await reader.read().catch(() => {
      throw new Error(`${file.name} is not a gzip file, or it is damaged.`)
    })
    if (done) break
    size += value.length
    if (size > mostUnpacked) {
      await reader.cancel()
      throw new Error(`${file.name} unpacks to more than ${mebibytes(mostUnpacked)}. Cut it into smaller files.`)
    }
    parts.push(value)
  }
  const out = new Uint8Array(size)
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}

/** Of the files a person gives together, the checkpoint, and the results on truths that go with it. */
export function checkpointFiles(files: File[]): { checkpoint: File; trust?: File } {
  const trust = files.filter((file) => file.name.toLowerCase().endsWith('.json'))
  const others = files.filter((file) => !trust.includes(file))
  const [checkpoint] = others
  if (!checkpoint) throw new Error(`${files.map((file) => file.name).join(', ')}: no checkpoint is among these files. Choose a .safetensors file of this page or of the command, and trust.json with it if you have one.`)
  if (others.length > 1 || trust.length > 1) throw new Error(`${files.map((file) => file.name).join(', ')}: these are several. Choose one checkpoint, and at most one trust.json with it.`)
  return { checkpoint, trust: trust[0] }
}
