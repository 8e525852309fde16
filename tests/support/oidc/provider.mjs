// An OpenID Connect provider for tests: node provider.mjs, told by its environment. Anybody signs in by naming an account.
import { Provider } from "oidc-provider";

const { PORT, CLIENT, SECRET, REDIRECT, ACCOUNTS } = process.env;
const accounts = JSON.parse(ACCOUNTS);
const provider = new Provider(`http://127.0.0.1:${PORT}`, {
  clients: [{ client_id: CLIENT, client_secret: SECRET, redirect_uris: [REDIRECT] }],
  claims: { openid: ["sub"], profile: ["name"], email: ["email", "email_verified"], groups: ["groups"] },
  conformIdTokenClaims: false,
  cookies: { keys: ["a test"] },
  pkce: { required: () => true },
  findAccount: async (_, id) => ({ accountId: id, claims: async () => ({ sub: id, ...accounts[id] }) }),
});
provider.listen(Number(PORT), "127.0.0.1", () => console.log("ready"));
