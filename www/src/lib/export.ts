// Token rewards out of the page: the same versioned records that the command writes, and a table.
import type { TokenRewardRecord } from './protocol.gen'

export const SCHEMA = 'avascope.token-rewards/1'

export const toJsonl = (records: TokenRewardRecord[]) => records.map((record) => JSON.stringify(record) + '\n').join('')

const COLUMNS = ['id', 'side', 'index', 'token_id', 'token_json', 'start', 'end', 'mean', 'std', 'ignorance_std', 'total_std', 'true_mean', 'true_std', 'labelled', 'method', 'credit', 'model', 'checkpoint', 'uncertainty', 'ignorance', 'trust'] as const

/** One field of RFC 4180. A text that a spreadsheet would run as a formula is held back by an apostrophe. */
function field(value: unknown): string {
  if (value == null) return ''
  if (typeof value !== 'string') return String(value)
  const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}

/**
 * One line a token. Token text is JSON, so that white space survives. `std` is the own spread, and `uncertainty` says what that
 * measures; `ignorance` says where `ignorance_std` comes from, and `total_std` is both together. Empty where there is none.
 */
export function toCsv(records: TokenRewardRecord[]): string {
  const lines: unknown[][] = records.flatMap((record) =>
    record.tokens.map((token, i) => [
      record.id, record.side, i, token.id, JSON.stringify(token.text), token.start, token.end, token.mean, token.std,
      token.ignorance_std, token.total_std, token.true_mean, token.true_std, token.labelled, record.provenance.method,
      record.provenance.credit, record.provenance.model, record.provenance.checkpoint, record.provenance.uncertainty,
      record.provenance.ignorance?.kind, record.provenance.trust,
    ]),
  )
  return [COLUMNS.join(','), ...lines.map((line) => line.map(field).join(','))].join('\r\n') + '\r\n'
}

/** JSON that can stand inside a script element: no sequence in it can end the element or open a comment. */
export const jsonForScript = (value: unknown) =>
  JSON.stringify(value).replaceAll('<', '\\u003c').replaceAll('>', '\\u003e').replaceAll('\u2028', '\\u2028').replaceAll('\u2029', '\\u2029')

/** Reads records written as a JSON array, one record, or JSON lines. Throws with a sentence for people. */
export function readRecords(text: string): TokenRewardRecord[] {
  const trimmed = text.trim()
  if (!trimmed) return []
  let values: unknown[]
  try {
    const value: unknown = JSON.parse(trimmed)
    values = Array.isArray(value) ? value : [value]
  } catch {
    values = trimmed.split(/\r?\n/).map((line, i) => {
      try {
        return JSON.parse(line) as unknown
      } catch {
        throw new Error(`Line ${i + 1} is not JSON.`)
      }
    })
  }
  return values.map((value, i) => {
    const record = value as Partial<TokenRewardRecord> | null
    if (record?.schema !== SCHEMA) throw new Error(`Record ${i + 1} has schema ${JSON.stringify(record?.schema ?? null)}; this page reads ${SCHEMA}.`)
    if (!Array.isArray(record.tokens) || !record.score || !record.provenance) throw new Error(`Record ${i + 1} lacks tokens, score or provenance.`)
    if (!['chosen', 'rejected', 'answer'].includes(record.side ?? '') || typeof record.id !== 'string' || typeof record.prompt !== 'string') throw new Error(`Record ${i + 1} lacks its side, id or prompt.`)
    if (!record.tokens.every((token) => typeof token?.text === 'string' && typeof token.id === 'number')) throw new Error(`Record ${i + 1} has a token without text or id.`)
    return record as TokenRewardRecord
  })
}

export function download(name: string, type: string, part: BlobPart): void {
  const address = URL.createObjectURL(new Blob([part], { type }))
  const link = document.createElement('a')
  link.href = address
  link.download = name
  link.click()
  setTimeout(() => URL.revokeObjectURL(address), 10_000)
}
