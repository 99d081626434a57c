import { gzipSync } from 'node:zlib'
import { expect, it } from 'vitest'
import { readData, readModel } from './files'

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
