import { untrack } from 'svelte';
import { ApiError } from '../api';
import { joinBars, nextSince, type Bars } from '../model/bars';
import { live } from './live.svelte';

const EVERY_MS = 15_000;

/** The session's minutes of one underlying and, with an expiry, of its chain; kept by the service, so a reload has them. */
export class SessionBars {
  held = $state.raw<Bars | null>(null);
  /** Why there are none. */
  problem = $state('');

  /** Ask now, then again and again, and whenever the page is shown again, until the returned function is called. */
  watch(symbol: string, expiry: string | null): () => void {
    let stopped = false;
    this.held = null;
    this.problem = '';
    const ask = async () => {
      if (document.hidden) return;
      try {
        const more = await live.api.bars(symbol, expiry, nextSince(this.held));
        if (stopped) return;
        this.held = joinBars(this.held, more);
        this.problem = '';
      } catch (error) {
        if (!stopped) this.problem = error instanceof ApiError ? error.message : 'the service does not answer';
      }
    };
    untrack(() => void ask()); // what is held already must not begin the watch anew
    const again = () => void ask();
    const timer = setInterval(again, EVERY_MS);
    document.addEventListener('visibilitychange', again);
    return () => {
      stopped = true;
      clearInterval(timer);
      document.removeEventListener('visibilitychange', again);
    };
  }
}
