// What the runners for Node have in common.
import { readFileSync } from 'node:fs'

const camel = name => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase())

/** The mistakes, from standard input: see cases.py. */
export const mistakes = () => JSON.parse(readFileSync(0, 'utf8'))

/** A request with its names in the client's convention, or the other one where they begin with "!". */
export function cased(value, snake) {
  if (Array.isArray(value)) return value.map(one => cased(one, snake))
  if (value === null || typeof value !== 'object') return value
  if (value.$undefined) return undefined
  const name = key => (key.startsWith('!') === snake ? camel(key.replace('!', '')) : key.replace('!', ''))
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [name(key), cased(one, snake)]))
}

/** One cell, for check.py. */
export function tell(name, wire, { thrown, error, answer }) {
  const cell = { name, wire }
  if (thrown) cell.thrown = thrown
  else if (error) {
    const details = error.metadata?.get('grpc-status-details-bin') ?? []
    cell.details = details.length ? Buffer.from(details[0]).toString('hex') : ''
    // Thrown by the client after all.
    if (!details.length) cell.thrown = error.details ?? error.message
  } else cell.decision = answer.decision ?? {}
  console.log(JSON.stringify(cell))
}
