import type { NamedList, WatchEntry } from '../lib/api';
import { live } from '../lib/state/live.svelte';
import { prefs } from '../lib/state/prefs.svelte';
import { session } from '../lib/state/session.svelte';
import { moved } from './order';

export const DEFAULT_LIST = 'default';

/** The user's named lists and their entries, as the service keeps them; changes are shown at once and then confirmed. */
class Lists {
  all = $state.raw<NamedList[]>([]);
  entries = $state.raw<WatchEntry[]>([]);
  loaded = $state(false);
  private asked = 0;
  /** Whose they are. */
  private user = session.signed?.userId;
  /** Changes under way. They go to the service one after another, in the order they were made. */
  private changing = 0;
  private last: Promise<unknown> = Promise.resolve();
  /** Entries that are on their way out: pressing twice is one wish. */
  private readonly leaving = new Set<number>();

  /** The list on screen: the one chosen in this browser, while it exists. */
  get current(): string {
    const chosen = prefs.all.list;
    return this.all.some((one) => one.name === chosen) ? chosen : DEFAULT_LIST;
  }

  get shown(): WatchEntry[] {
    return this.entries.filter((entry) => entry.list === this.current);
  }

  choose(name: string): void {
    prefs.set('list', name);
  }

  /** The next (1) or previous (-1) list, around the ends. */
  step(by: number): void {
    const names = this.all.map((one) => one.name);
    const next = names[(names.indexOf(this.current) + by + names.length) % names.length];
    if (next) this.choose(next);
  }

  async refresh(): Promise<void> {
    const asked = ++this.asked;
    if (session.signed?.userId !== this.user) this.handOver();
    try {
      const [all, held] = await Promise.all([live.api.lists(session.userId), live.api.watchlist(session.userId)]);
      if (asked !== this.asked || this.changing) return; // something changed meanwhile: that answer is the newer one
      this.all = all.lists;
      this.entries = held.watchlist;
      this.loaded = true;
    } catch {
      // the badges say that the service is away; the lists stay as they were
    }
  }

  /** Somebody else has signed in, or nobody: until the service answers there is nothing to show. */
  private handOver(): void {
    this.user = session.signed?.userId;
    this.all = [];
    this.entries = [];
    this.loaded = false;
  }

  async create(name: string): Promise<boolean> {
    return this.change(async () => {
      this.all = (await live.api.createList(session.userId, name)).lists;
      this.choose(this.all.at(-1)?.name ?? DEFAULT_LIST);
    });
  }

  async rename(list: string, name: string): Promise<boolean> {
    return this.change(async () => {
      const at = this.all.findIndex((one) => one.name === list);
      this.all = (await live.api.renameList(session.userId, list, name)).lists;
      this.choose(this.all[at]?.name ?? DEFAULT_LIST);
    });
  }

  async drop(list: string): Promise<boolean> {
    return this.change(async () => {
      const answer = await live.api.deleteList(session.userId, list);
      this.all = answer.lists;
      live.note(answer.message);
    });
  }

  /** Move a list among its fellows. */
  async place(list: string, to: number): Promise<boolean> {
    const from = this.all.findIndex((one) => one.name === list);
    if (from < 0 || to < 0 || to >= this.all.length || from === to) return false;
    this.all = moved(this.all, from, to);
    return this.change(async () => {
      this.all = (await live.api.orderLists(session.userId, this.all.map((one) => one.name))).lists;
    });
  }

  /** Move an entry within the list on screen. */
  async placeEntry(from: number, to: number): Promise<boolean> {
    const shown = this.shown;
    if (from < 0 || to < 0 || to >= shown.length || from === to) return false;
    const order = moved(shown, from, to);
    this.entries = [...this.entries.filter((entry) => entry.list !== this.current), ...order];
    return this.change(async () => {
      await live.api.orderEntries(session.userId, this.current, order.map((entry) => entry.id));
    });
  }

  async moveEntry(entry: WatchEntry, list: string, copy: boolean): Promise<boolean> {
    return this.leave(entry, async () => {
      live.note((await live.api.moveEntry(session.userId, entry.id, list, copy)).message);
      if (!copy) this.forget(entry);
    });
  }

  async remove(entry: WatchEntry): Promise<boolean> {
    return this.leave(entry, async () => {
      const answer = await live.api.removeEntry(session.userId, entry);
      this.forget(entry);
      live.note(`${[entry.symbol, entry.expiry_date].filter(Boolean).join(' ')} removed, ${answer.unsubscribed} unsubscribed`);
    });
  }

  private forget(entry: WatchEntry): void {
    this.entries = this.entries.filter((one) => one.id !== entry.id);
  }

  private async leave(entry: WatchEntry, act: () => Promise<void>): Promise<boolean> {
    if (this.leaving.has(entry.id)) return false;
    this.leaving.add(entry.id);
    try {
      return await this.change(act);
    } finally {
      this.leaving.delete(entry.id);
    }
  }

  /** Do it, say why where it fails, and show what the service then has. Who has left by its turn wants it no more. */
  private async change(act: () => Promise<void>): Promise<boolean> {
    this.asked++;
    this.changing++;
    const user = session.signed?.userId;
    const turn = this.last.then(async () => {
      const isStill = session.signed?.userId === user;
      if (isStill) await act();
      return isStill;
    });
    this.last = turn.catch(() => {});
    try {
      return await turn;
    } catch (error) {
      live.failed(error);
      return false;
    } finally {
      if (!--this.changing) void this.refresh();
    }
  }
}

export const lists = new Lists();
