/** Who is using this page. Without authentication the service takes user 1. */

const KEY = 'bt.session.v1';

interface Signed {
  token: string;
  userId: number;
  name: string;
}

function load(): Signed | null {
  try {
    return JSON.parse(sessionStorage.getItem(KEY) ?? 'null') as Signed | null;
  } catch {
    return null;
  }
}

class Session {
  signed = $state<Signed | null>(load());
  /** The service asked for a sign-in; the screen stays behind the dialog. */
  needed = $state(false);

  get userId(): number {
    return this.signed?.userId ?? 1;
  }

  token = (): string | null => this.signed?.token ?? null;

  enter(signed: Signed): void {
    this.signed = signed;
    this.needed = false;
    this.store(JSON.stringify(signed));
  }

  leave(): void {
    this.signed = null;
    this.store(null);
  }

  private store(text: string | null): void {
    try {
      if (text) sessionStorage.setItem(KEY, text);
      else sessionStorage.removeItem(KEY);
    } catch {
      // then the sign-in lasts as long as the page
    }
  }
}

export const session = new Session();
