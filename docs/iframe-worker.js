// A page that is opened from disk may start no worker. There, the one in which Material for MkDocs
// searches runs in a frame of the page, whose script asks for "IFrameWorker" by that name.
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const page = this.frame.contentDocument;
      // an empty frame is written, or Firefox lays another one over it later
      page.open();
      page.write("<body></body>");
      page.close();
      // what a worker posts goes to the page that has started it
      this.frame.contentWindow.postMessage = (data) => this.receive(data);
      const script = page.createElement("script");
      script.src = url;
      this.loaded = new Promise((resolve) => script.addEventListener("load", resolve));
      page.body.append(script);
    }

    receive(data) {
      this.dispatchEvent(new MessageEvent("message", { data }));
    }

    async postMessage(data) {
      await this.loaded;
      this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }));
    }
  };
  window.Worker = window.IFrameWorker;
}
