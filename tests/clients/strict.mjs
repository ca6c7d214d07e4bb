// Refuses what @grpc/proto-loader drops or bends without a word: unknown names, arrays and texts where
// a message belongs, flags that are no booleans, names that an enum does not have. See docs/guides/clients.md.

const [BOOL, STRING, ENUM, MESSAGE] = ['TYPE_BOOL', 'TYPE_STRING', 'TYPE_ENUM', 'TYPE_MESSAGE']
const camel = name => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase())

/** Throws a TypeError where `request` is no request of `method`, such as "rolegate.v1.AuthzService/Check". */
export function strictly(definition, method, request) {
  const [service, name] = method.split('/')
  look(definition, definition[service][name].requestType.type, request, name)
}

function look(definition, type, value, path) {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    throw new TypeError(`${path}: an object (${type.name}) is expected`)
  }
  for (const [key, one] of Object.entries(value)) {
    const field = type.field.find(field => field.name === key || camel(field.name) === key)
    if (!field) throw new TypeError(`${path}.${key}: ${type.name} has no such field`)
    if (one === undefined || one === null) continue
    const many = field.label === 'LABEL_REPEATED'
    if (many && !Array.isArray(one)) throw new TypeError(`${path}.${key}: an array is expected`)
    for (const each of many ? one : [one]) lookAt(definition, field, each, `${path}.${key}`)
  }
}

function lookAt(definition, field, value, path) {
  const named = () => definition[field.typeName.replace(/^\./, '')] ?? definition[`rolegate.v1.${field.typeName}`]
  switch (field.type) {
    case MESSAGE:
      return look(definition, named().type, value, path)
    case BOOL:
      if (typeof value === 'boolean') return
      throw new TypeError(`${path}: true or false is expected`)
    case STRING:
      if (typeof value === 'string') return
      throw new TypeError(`${path}: a text is expected`)
    case ENUM:
      if (typeof value === 'number' || named().type.value.some(known => known.name === value)) return
      throw new TypeError(`${path}: ${value} is none of the enum's names`)
  }
}
