/* What the theme leaves open for readers who use a keyboard or a screen reader. */
(() => {
  // A box that scrolls sideways must be reachable by keyboard; one that does not need not be.
  const scrollers = ".math-scroll, .cell_output, .cell_output > .output, pre, .pst-scrollable-table-container, table";
  const reach = (box) => {
    if (box.scrollWidth > box.clientWidth && /auto|scroll/.test(getComputedStyle(box).overflowX)) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  };
  const prepare = () => {
    // The sidebar with the book's name in it is a region of its own.
    const sidebar = document.getElementById("pst-primary-sidebar");
    sidebar?.setAttribute("role", "complementary");
    sidebar?.setAttribute("aria-label", "Book");
    document.querySelectorAll("[data-print]").forEach((button) => button.addEventListener("click", () => window.print()));
    const watch = new ResizeObserver((entries) => entries.forEach((entry) => reach(entry.target)));
    const boxes = document.querySelectorAll(scrollers);
    // What is far below is not laid out yet: the keyboard may stop there until it is known whether it scrolls.
    boxes.forEach((box) => { box.tabIndex = 0; watch.observe(box); });
    // The formulas' font changes what is in a box, not the box: no observer sees that.
    // Observed anew, each box is looked at once it is laid out; asking it now would lay out the whole page.
    document.fonts?.ready.then(() => boxes.forEach((box) => { watch.unobserve(box); watch.observe(box); }));
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", prepare);
  else prepare();
})();
