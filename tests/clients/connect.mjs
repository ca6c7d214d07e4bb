// connect-es over gRPC: @connectrpc/connect-node. connect.mjs ADDRESS MODULES DESCRIPTORS HOW
//
// HOW: `create` builds messages from objects; `json` parses JSON and ignores what it does not know.
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { cased, mistakes, tell } from './cases.mjs'

const [address, modules, descriptors, how] = process.argv.slice(2)
const require = createRequire(`${modules}/`)
const { createClient, ConnectError } = require('@connectrpc/connect')
const { createGrpcTransport } = require('@connectrpc/connect-node')
const { create, createFileRegistry, fromBinary, fromJson, toBinary } = require('@bufbuild/protobuf')
const { FileDescriptorSetSchema } = require('@bufbuild/protobuf/wkt')

const files = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(descriptors)))
const transport = createGrpcTransport({ baseUrl: `http://${address}`, defaultTimeoutMs: 10_000 })

for (const { name, method, request } of mistakes()) {
  const [service, call] = method.split('/')
  const described = files.getService(`rolegate.v1.${service}`)
  const local = call[0].toLowerCase() + call.slice(1)
  const schema = described.method[local].input
  let wire = null
  try {
    const written = cased(request, false)
    // JSON has no undefined.
    const parsed = () => fromJson(schema, JSON.parse(JSON.stringify(written)), { ignoreUnknownFields: true })
    const message = how === 'json' ? parsed() : create(schema, written)
    wire = Buffer.from(toBinary(schema, message)).toString('hex')
    const answer = await createClient(described, transport)[local](message)
    tell(name, wire, { answer })
  } catch (error) {
    if (wire === null || !(error instanceof ConnectError)) {
      tell(name, null, { thrown: error.message })
      continue
    }
    const details = error.metadata.get('grpc-status-details-bin')
    const metadata = { get: () => (details ? [Buffer.from(details, 'base64')] : []) }
    tell(name, wire, { error: { metadata, message: error.message } })
  }
}
process.exit(0)
