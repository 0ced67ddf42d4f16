// Choosing a password: for somebody who came by a link and has none yet, or who wants another one.
import { html, useState } from "/vendor/preact.js";
import { me, send, session } from "./api.js";
import { say, sheet } from "./state.js";
import { Dialog, Fault } from "./widgets.js";

const close = () => { sheet.value = ""; };

export function Password() {
  const [given, setGiven] = useState({ current: "", password: "", again: "" });
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const differs = given.again !== "" && given.again !== given.password;
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await send("POST", "/v1/me/password", { password: given.password, current: given.current });
      close();
      say("Password set; your other sessions have ended");
      await session.load();
    } catch (failed) { setError(failed); setBusy(false); }
  };
  const field = (name, label, complete) => html`<label class="field">${label}<input type="password" name=${name} autocomplete=${complete} required minlength=${name === "current" ? 1 : 12} maxlength="256"
    value=${given[name]} onInput=${(e) => setGiven({ ...given, [name]: e.target.value })} /></label>`;
  return html`<${Dialog} title=${me.value.has_password ? "Change the password" : "Choose a password"} onClose=${close}><form class="stack" onSubmit=${submit}>
    <input type="hidden" name="username" autocomplete="username" value=${me.value.name} />
    ${me.value.has_password && field("current", "Current password", "current-password")}${field("password", "New password, 12 characters or more", "new-password")}${field("again", "Once more", "new-password")}
    ${differs && html`<p class="decline small" role="alert">The two differ.</p>`}${error && html`<${Fault} error=${error} />`}
    <div class="row"><button class="main" disabled=${busy || differs || !given.again}>${busy ? "Saving…" : "Save"}</button><button type="button" onClick=${close}>Cancel</button></div></form><//>`;
}
