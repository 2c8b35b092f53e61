import { afterEach, expect, it, vi } from 'vitest';
import { Api } from '../src/lib/api';

afterEach(() => vi.unstubAllGlobals());

it('a refusal names the sign-in that was refused, which may be over by then', async () => {
  let token: string | null = 'first';
  const refused: (string | null)[] = [];
  vi.stubGlobal('fetch', async () => {
    token = 'second';
    return Response.json({ code: 'UNAUTHENTICATED', detail: 'no' }, { status: 401 });
  });
  const api = new Api('', { token: () => token, refused: (one) => refused.push(one) });
  await expect(api.health()).rejects.toMatchObject({ status: 401, code: 'UNAUTHENTICATED' });
  await expect(api.signIn('asha', 'wrong')).rejects.toMatchObject({ status: 401 });
  expect(refused).toEqual(['first']);
});
