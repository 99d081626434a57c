import { describe, expect, it } from 'vitest'
import { jsonForScript, readRecords, SCHEMA, toCsv, toJsonl } from './export'
import type { TokenRewardRecord } from './protocol.gen'

const record: TokenRewardRecord = {
  schema: SCHEMA, id: '=1+1', side: 'chosen', prompt: 'p', answer: 'a,"\n', truncated: false,
  provenance: { method: 'ava_p', model: 'm', checkpoint: 'untrained', device: 'd', precision: 'f32', uncertainty: 'td_spread', credit: 'own', trust: 'exploratory', checked: [] },
  tokens: [{ id: 7, text: ',"\n', start: 1, end: 4, mean: -0.5, std: 1 }],
  score: { last: -0.5, sum: -0.5, mean: -0.5, sum_std: 1 },
}

describe('export', () => {
  it('gives back the records it wrote, as lines and as an array', () => {
    expect(readRecords(toJsonl([record, record]))).toEqual([record, record])
    expect(readRecords(JSON.stringify([record]))).toEqual([record])
    expect(readRecords(' ')).toEqual([])
  })
  it('refuses another version and says which it reads', () => {
    expect(() => readRecords(JSON.stringify({ ...record, schema: 'other/2' }))).toThrow(SCHEMA)
    expect(() => readRecords('{"a"')).toThrow('Line 1')
    expect(() => readRecords(JSON.stringify({ ...record, tokens: [null] }))).toThrow('Record 1')
    expect(() => readRecords(JSON.stringify({ ...record, side: 'x' }))).toThrow('side')
    expect(() => readRecords('null')).toThrow(SCHEMA)
  })
  it('quotes tables and runs no formula', () => {
    const [head, line] = toCsv([record]).split('\r\n')
    expect(head!.split(',').length).toBe(17)
    expect(line).toContain("'=1+1,chosen,0,7,")
    expect(line).toContain('""')
    expect(line).toContain(',-0.5,1,')
  })
  it('writes JSON that cannot end a script element', () => {
    const text = jsonForScript([{ ...record, answer: '</script><!--' }])
    expect(text).not.toMatch(/[<>]/)
    expect(JSON.parse(text)[0].answer).toBe('</script><!--')
  })
})
