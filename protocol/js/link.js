// The link `inlay:PORTAL/CODE`, by the same rules as the agent's own parser (SPEC.md, "Link").

const SCHEME = 'inlay';
const MAX_LINK_BYTES = 320;
const CODE = /^[A-Za-z0-9_-]{22}$/;
const LABEL = /^(?!-)[a-z0-9-]{1,63}(?<!-)$/;
const PORT = /^[1-9][0-9]{0,4}$/;

/** A link that isn't one. */
export class LinkError extends TypeError {
  /** @param {string} code one of the protocol's `link_…` causes */
  constructor(code) {
    super(code);
    this.name = 'LinkError';
    this.code = code;
  }
}

/**
 * Take a link apart.
 *
 * @param {string} text
 * @returns {{link: string, portal: string, code: string}}
 * @throws {LinkError}
 */
export function parseLink(text) {
  if (new TextEncoder().encode(text).length > MAX_LINK_BYTES) throw new LinkError('link_too_long');
  const colon = text.indexOf(':');
  if (colon < 0 || text.slice(0, colon).toLowerCase() !== SCHEME) throw new LinkError('link_wrong_scheme');
  const parts = text.slice(colon + 1).split('/');
  if (parts.length !== 2 || !parts[0] || !parts[1]) throw new LinkError('link_malformed');
  const [portal, code] = parts;
  if (!isPortalId(portal)) throw new LinkError('link_bad_portal');
  if (!CODE.test(code)) throw new LinkError('link_bad_code');
  return { link: text, portal, code };
}

function isPortalId(text) {
  const parts = text.split(':');
  if (parts.length > 2) return false;
  const [host, port] = parts;
  if (port !== undefined && !(PORT.test(port) && Number(port) < 65536 && port !== '443')) return false;
  return host.length <= 253 && host.split('.').every((label) => LABEL.test(label));
}
