// Browsers start no workers for pages that are opened from a folder. There, a worker is a hidden frame with the same interface,
// as far as the search of the site uses it: messages both ways, `importScripts`, `terminate`.
"use strict";
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    #frame = document.createElement("iframe");
    #ready;

    constructor(address) {
      super();
      this.#frame.hidden = true;
      this.#frame.title = "search";
      document.body.append(this.#frame);
      const inside = this.#frame.contentWindow;
      inside.postMessage = (data) => this.#arrived(data);
      inside.importScripts = (...addresses) =>
        addresses.reduce((before, next) => before.then(() => this.#load(next)), Promise.resolve());
      this.#ready = this.#load(address);
    }

    #load(address) {
      const inside = this.#frame.contentDocument;
      return new Promise((resolve, reject) => {
        const script = inside.createElement("script");
        script.src = new URL(address, location.href);
        script.onload = resolve;
        script.onerror = reject;
        inside.body.append(script);
      });
    }

    #arrived(data) {
      const event = new MessageEvent("message", { data: structuredClone(data) });
      this.dispatchEvent(event);
      this.onmessage?.(event);
    }

    postMessage(data) {
      this.#ready.then(() => {
        const inside = this.#frame.contentWindow;
        const event = new inside.MessageEvent("message", { data: structuredClone(data) });
        inside.dispatchEvent(event);
      });
    }

    terminate() {
      this.#frame.remove();
    }
  };
}
