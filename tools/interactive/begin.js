// Loads interactive.js, which is ten times a page's own scripts, when a figure that needs it comes near.
(() => {
  const source = document.currentScript.src.replace(/begin\.js.*$/, "interactive.js");
  const load = () => {
    const script = document.createElement("script");
    script.src = source;
    document.head.append(script);
  };
  const near = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    near.disconnect();
    // not while the page is busy with its own first view
    if (window.requestIdleCallback) requestIdleCallback(load, { timeout: 1000 });
    else load();
  }, { rootMargin: "600px" });
  document.querySelectorAll(".interactive").forEach((figure) => near.observe(figure));
})();
