// Types of the page's client. The messages' own types are in messages.d.ts (generated).

import type { KeyCount, Reader, Step } from './messages.js';
import type { Possibility } from './tables.js';

export { CAUSES, FINDINGS, PORTS, POSSIBILITIES, STEPS } from './tables.js';

/** A cause with its texts filled in. Show them as text, never as HTML. */
export interface Cause {
  code: string;
  happened: string;
  why: string;
  nextStep: string;
}

/** Which way the code went, and why this one. */
export interface PathEvent {
  /** `portal`: the socket is gone after the code was taken; go on with the portal's own events. */
  path: 'loopback' | 'link' | 'portal';
  reason:
    | 'accepted'
    | 'not_prepared'
    | 'permission_prompt'
    | 'permission_denied'
    | 'no_agent'
    | 'agent_closed'
    | 'agent_silent'
    | 'agent_blocked'
    | 'agent_frame_invalid'
    | 'agent_refused'
    | 'agent_mute';
}

/** The end, as the agent tells it. `cause` is null when the order finished. */
export interface EndedEvent {
  outcome: 'finished' | 'undone' | 'refused';
  cause: Cause | null;
}

/** What the module needs of a browser; the browser's own by default. */
export interface Environment {
  WebSocket: typeof WebSocket;
  permissions?: { query(description: { name: string }): Promise<{ state: string }> };
  document: Pick<Document, 'visibilityState' | 'addEventListener' | 'removeEventListener'>;
  /** The page's own host, as in `location.hostname`. */
  hostname: string;
  navigate(link: string): void;
  setTimeout(call: () => void, milliseconds: number): number;
  clearTimeout(timer: number): void;
}

export interface OpenerOptions {
  /** `inlay:PORTAL/CODE`, as in the page's `<a href>`. */
  link: string;
  /** Ports of the agent; the protocol's own by default. */
  ports?: readonly number[];
  /** Hands the completion secret to the portal, in the session that began the order. */
  completion(secret: string): Promise<void>;
  onPath?(event: PathEvent): void;
  /** `key`: at the step `keys`, which of how many a card makes now. */
  onProgress?(event: { step: Step; key?: KeyCount | null }): void;
  onEnded?(event: EndedEvent): void;
  /** Something went wrong that does not end the order by itself. */
  onTrouble?(cause: Cause): void;
  environment?: Environment;
}

export interface Opener {
  /** Look for an agent, at most 300 ms, without making the browser ask. The link works meanwhile. */
  prepare(): Promise<'loopback' | 'link'>;
  /** Call with the click on the link. Either takes the click over or leaves it to the browser. */
  open(event: { preventDefault(): void }): void;
  /** Go on with a fresh link. */
  renew(link: string): void;
  /** End it; nothing is told afterwards. */
  close(): void;
}

/** How the readers stand. Without the PC/SC service none is seen. */
export interface ReadersEvent {
  readers: readonly Reader[];
  service: boolean;
}

export interface ReaderWatchOptions {
  /** Asks the portal for a ticket to read; asked again when one has run out. */
  ticket(): Promise<string>;
  onReaders(event: ReadersEvent): void;
  /** The watch has ended by itself: `permission_…`, `no_agent`, `no_ticket`, `refused` (with its cause), `agent_…`. */
  onEnded?(event: { reason: string; cause: Cause | null }): void;
  ports?: readonly number[];
  /** The person has clicked for it: the browser may ask them whether this page may reach the agent. */
  ask?: boolean;
  environment?: Environment;
}

export interface ReaderWatch {
  /** End it; nothing is told afterwards. */
  close(): void;
}

/** A finding with its words. Show them as text, never as HTML. */
export interface FindingText {
  code: string;
  /** The reader it is about, as PC/SC names it. */
  reader: string | null;
  level: 'ok' | 'note' | 'problem';
  happened: string;
  /** Empty when there is nothing to do. */
  nextStep: string;
}

export interface CheckOptions {
  ticket(): Promise<string>;
  ports?: readonly number[];
  environment?: Environment;
}

export interface SilenceWatch {
  clicked(): void;
  claimed(): void;
  close(): void;
}

export const ACCEPT_MILLISECONDS: number;
/** How long an agent that was found may take to greet anew at the click. */
export const GREET_MILLISECONDS: number;
export const SILENCE_MILLISECONDS: number;
export function createOpener(options: OpenerOptions): Opener;
export const CHECK_MILLISECONDS: number;
/** Null when the agent can't be asked; `watchReaders` says why. */
export function checkComputer(options: CheckOptions): Promise<FindingText[] | null>;
export function watchReaders(options: ReaderWatchOptions): ReaderWatch;
export function createSilenceWatch(options: {
  onSilence(possibilities: readonly Possibility[]): void;
  environment: Environment;
  milliseconds?: number;
}): SilenceWatch;
export class LinkError extends TypeError {
  code: string;
}
export function parseLink(text: string): { link: string; portal: string; code: string };
export function causeOf(error: { error: string; fields?: Record<string, string | number> }): Cause;
export function browserEnvironment(): Environment;
