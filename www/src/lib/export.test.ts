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
    expect(head!.split(',').length).toBe(21)
    expect(line).toContain("'=1+1,chosen,0,7,")
    expect(line).toContain('""')
    expect(line).toContain(',-0.5,1,')
  })
  it('carries own spread, ignorance, total and credit, each in its own column', () => {
    const known: TokenRewardRecord = {
      ...record,
      provenance: { ...record.provenance, credit: 'red', ignorance: { kind: 'ensemble', detail: 'two runs' } },
      tokens: [{ ...record.tokens[0]!, text: 'a', std: 3, ignorance_std: 4, total_std: 5 }],
    }
    const of = (text: string) => {
      const [head, line] = text.split('\r\n').map((each) => each.split(','))
      return Object.fromEntries(head!.map((name, i) => [name, line![i]]))
    }
    expect(of(toCsv([known]))).toMatchObject({ std: '3', ignorance_std: '4', total_std: '5', credit: 'red', ignorance: 'ensemble', uncertainty: 'td_spread' })
    expect(of(toCsv([{ ...record, tokens: [{ ...record.tokens[0]!, text: 'a' }] }]))).toMatchObject({ std: '1', ignorance_std: '', total_std: '', credit: 'own', ignorance: '' })
  })
  it('writes JSON that cannot end a script element', () => {
    const text = jsonForScript([{ ...record, answer: '</script><!--' }])
    expect(text).not.toMatch(/[<>]/)
    expect(JSON.parse(text)[0].answer).toBe('</script><!--')
  })
})
