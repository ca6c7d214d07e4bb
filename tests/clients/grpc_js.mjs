// Node's most used client: @grpc/grpc-js with @grpc/proto-loader. grpc_js.mjs ADDRESS MODULES PROTO HOW
import { createRequire } from 'node:module'
import { cased, mistakes, tell } from './cases.mjs'
import { strictly } from './strict.mjs'

const [address, modules, proto, how] = process.argv.slice(2)
const require = createRequire(`${modules}/`)
const grpc = require('@grpc/grpc-js')
const loader = require('@grpc/proto-loader')

const keepCase = how === 'snake'
const files = ['authz_service', 'member_service'].map(name => `rolegate/v1/${name}.proto`)
const definition = loader.loadSync(files, { includeDirs: [proto], keepCase })
const { v1 } = grpc.loadPackageDefinition(definition).rolegate
const clients = {}

for (const { name, method, request } of mistakes()) {
  const [service, call] = method.split('/')
  const { path, requestSerialize } = definition[`rolegate.v1.${service}`][call]
  clients[service] ??= new v1[service](address, grpc.credentials.createInsecure())
  const written = cased(request, keepCase)
  try {
    if (how === 'strict') strictly(definition, `rolegate.v1.${service}/${call}`, written)
    const wire = requestSerialize(written).toString('hex')
    const answer = await new Promise(resolve => {
      const deadline = new Date(Date.now() + 10_000)
      clients[service][call](written, { deadline }, (error, answer) => resolve({ error, answer }))
    })
    tell(name, wire, answer)
  } catch (error) {
    tell(name, null, { thrown: error.message })
  }
}
process.exit(0)
