import { gzipSync } from 'node:zlib'
import { expect, it } from 'vitest'
import { checkpointFiles, droppedFolders, modelFiles, naming, readData, readModel } from './files'

const text = '{"prompt":"a"}\n'
it('reads rows as they are, and unpacks .gz', async () => {
  expect(new TextDecoder().decode(await readData(new File([text], 'rows.jsonl')))).toBe(text)
  expect(new TextDecoder().decode(await readData(new File([gzipSync(text)], 'rows.jsonl.gz')))).toBe(text)
})
it('stops unpacking at the limit, and names a file that is no archive', async () => {
  await expect(readData(new File([gzipSync('x'.repeat(10_000))], 'a.gz'), 100)).rejects.toThrow('unpacks to more')
  await expect(readData(new File(['plain'], 'b.gz'))).rejects.toThrow('b.gz is not a gzip file')
})
it('refuses a model that a page cannot hold, before reading it', async () => {
  const large = { name: 'm', size: 3 * 1024 ** 3, arrayBuffer: () => Promise.reject(new Error('was read')) } as unknown as File
  await expect(readModel([large])).rejects.toThrow('smaller model')
})
it('puts the weights\' name before an error that names no file, and leaves one that does', async () => {
  const names = ['config.json', 'model.safetensors']
  await expect(naming(names, Promise.reject(new Error('cut short')))).rejects.toThrow('model.safetensors: cut short')
  await expect(naming(names, Promise.reject(new Error('config.json is no JSON')))).rejects.toThrow(/^config\.json is no JSON$/)
  await expect(naming(['notes.txt'], Promise.reject(new Error('no model')))).rejects.toThrow('notes.txt: no model')
  expect(await naming(names, Promise.resolve(3))).toBe(3)
})
it('tells a checkpoint from the results on truths that go with it', () => {
  const file = (name: string) => new File([], name)
  const [checkpoint, trust] = [file('step-000050.safetensors'), file('trust.json')]
  expect(checkpointFiles([trust, checkpoint])).toEqual({ checkpoint, trust })
  expect(checkpointFiles([checkpoint])).toEqual({ checkpoint, trust: undefined })
  expect(() => checkpointFiles([trust])).toThrow('trust.json: no checkpoint is among these files')
  expect(() => checkpointFiles([checkpoint, file('other.safetensors')])).toThrow('these are several')
  expect(() => checkpointFiles([checkpoint, trust, file('b.json')])).toThrow('at most one trust.json')
})
it('takes of a folder what a model is made of, and not the same weights in another form', () => {
  const file = (path: string) => Object.defineProperty(new File([], path.split('/').pop() ?? ''), 'webkitRelativePath', { value: path })
  const names = (paths: string[]) => modelFiles(paths.map(file)).map((one) => one.webkitRelativePath)
  const hub = ['m/config.json', 'm/model.safetensors', 'm/tokenizer.json', 'm/chat_template.jinja']
  expect(names([...hub, 'm/pytorch_model.bin', 'm/README.md', 'm/.gitattributes', 'm/onnx/model.safetensors'])).toEqual(hub)
  const karpathy = ['m/stories260K.bin', 'm/tok512.bin']
  expect(names([...karpathy, 'm/readme.md'])).toEqual(karpathy)
  expect(names(['model.gguf', 'notes.md'])).toEqual(['model.gguf'])
})
it('reads the files of dropped folders to their end, and leaves files alone to the browser', async () => {
  const file = (name: string) => ({ isFile: true, isDirectory: false, file: (done: (file: File) => void) => done(new File([], name)) })
  const parts = [[file('a'), { isFile: false, isDirectory: true }], [file('b')], []]
  const folder = { isFile: false, isDirectory: true, createReader: () => ({ readEntries: (done: (part: unknown) => void) => done(parts.shift()) }) }
  const items = (...entries: unknown[]) => entries.map((entry) => ({ webkitGetAsEntry: () => entry })) as unknown as DataTransferItemList
  expect((await droppedFolders(items(folder, file('c'), null)))?.map((one) => one.name)).toEqual(['a', 'b', 'c'])
  expect(await droppedFolders(items(file('c')))).toBeUndefined()
})
