// Records in the order of a file, put together into what is shown at once: the two sides of a row, or an answer alone.
import type { TokenRewardRecord } from '../lib/protocol.gen'

const KEY = (record: TokenRewardRecord) => [record.id, record.provenance.method, record.provenance.model, record.provenance.checkpoint].join('\u0000')

export function pairs(records: TokenRewardRecord[]): TokenRewardRecord[][] {
  const waiting = new Map<string, TokenRewardRecord[]>()
  const out: TokenRewardRecord[][] = []
  for (const record of records) {
    const group = waiting.get(KEY(record))
    if (record.side !== 'answer' && group && group[0]!.side !== record.side) {
      group.push(record)
      group.sort((a, b) => a.side.localeCompare(b.side))
      waiting.delete(KEY(record))
    } else {
      const fresh = [record]
      out.push(fresh)
      if (record.side !== 'answer') waiting.set(KEY(record), fresh)
    }
  }
  return out
}
