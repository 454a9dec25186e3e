// A small checker for the part of JSON Schema that the protocol's schema uses. Names the first fault's path, in
// the words of the Python side.

const ISSUES = { unknown: (path, key) => `${path}.${key.slice(0, 40)}` };

export function checker(document) {
  const resolve = (schema) => (schema.$ref ? document.$defs[schema.$ref.split('/').at(-1)] : schema);

  function fault(schema, value, path) {
    schema = resolve(schema);
    if (schema.discriminator) {
      const { propertyName, mapping } = schema.discriminator;
      const known = typeof value === 'object' && value !== null && Object.hasOwn(mapping, value[propertyName]);
      return known ? fault({ $ref: mapping[value[propertyName]] }, value, path) : `${path}.${propertyName}`;
    }
    if (schema.anyOf) {
      const faults = schema.anyOf.map((option) => fault(option, value, path));
      return faults.includes(null) ? null : faults.reduce((a, b) => (b.length > a.length ? b : a));
    }
    if (schema.enum && !schema.enum.includes(value)) return path;
    switch (schema.type) {
      case undefined:
        return null;
      case 'null':
        return value === null ? null : path;
      case 'boolean':
        return typeof value === 'boolean' ? null : path;
      case 'integer':
        return Number.isInteger(value) && value >= (schema.minimum ?? -Infinity) && value <= (schema.maximum ?? Infinity)
          ? null
          : path;
      case 'string':
        return textFits(schema, value) ? null : path;
      case 'array':
        return arrayFault(schema, value, path);
      case 'object':
        return objectFault(schema, value, path);
      default:
        throw new TypeError(`not checked: ${schema.type}`);
    }
  }

  function textFits(schema, value) {
    if (typeof value !== 'string') return false;
    const length = [...value].length;
    if (length < (schema.minLength ?? 0) || length > (schema.maxLength ?? Infinity)) return false;
    if (schema.pattern && !new RegExp(schema.pattern).test(value)) return false;
    return schema.contentEncoding !== 'base64' || /^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(value);
  }

  function arrayFault(schema, value, path) {
    if (!Array.isArray(value)) return path;
    if (value.length < (schema.minItems ?? 0) || value.length > (schema.maxItems ?? Infinity)) return path;
    return first(value.map((item, index) => fault(schema.items, item, `${path}[${index}]`)));
  }

  function objectFault(schema, value, path) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return path;
    if (!schema.properties) {
      return first(Object.values(value).map((item) => fault(schema.additionalProperties, item, `${path}[...]`)));
    }
    const unknown = Object.keys(value).find((key) => !Object.hasOwn(schema.properties, key));
    if (unknown !== undefined) return ISSUES.unknown(path, unknown);
    const missing = schema.required.find((key) => !Object.hasOwn(value, key));
    if (missing !== undefined) return `${path}.${missing}`;
    return first(Object.entries(value).map(([key, item]) => fault(schema.properties[key], item, `${path}.${key}`)));
  }

  return (type, value) => fault(document.$defs[type], value, '$');
}

function first(faults) {
  return faults.find((found) => found !== null) ?? null;
}
