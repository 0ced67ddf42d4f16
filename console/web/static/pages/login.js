// Logging in with a name and a password; a failure keeps what was typed.
import { html, useEffect, useState } from "/vendor/preact.js";
import { get, session } from "../lib/api.js";
import { Fault } from "../lib/widgets.js";

export function Login() {
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const [methods, setMethods] = useState(null);
  useEffect(() => { get("/v1/login/methods", { as_of: null }, { quiet: true }).then(setMethods, () => {}); }, []); // without an answer, there is the password
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try { await session.login(name, password); } catch (failed) { setError(failed); setBusy(false); }
  };
  return html`<main class="login"><form class="stack" onSubmit=${submit}><div class="row"><img src="/static/mark.svg" width="24" height="24" alt="" /><h1>Stream-Sentinel</h1></div>
    <label class="field">Name<input autofocus autocomplete="username" name="name" required value=${name} onInput=${(e) => setName(e.target.value)} /></label>
    <label class="field">Password<input type="password" autocomplete="current-password" name="password" required value=${password} onInput=${(e) => setPassword(e.target.value)} /></label>
    ${error && html`<${Fault} error=${error} />`}<button class="main" disabled=${busy}>${busy ? "Logging in…" : "Log in"}</button>
    ${methods?.oidc && html`<a class="button" href=${methods.oidc}>Log in with ${methods.label}</a>`}
    <p class="small soft">Accounts are made by an administrator: <code>sentinel user add</code>.</p></form></main>`;
}
