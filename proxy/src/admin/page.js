(() => {
  const refresh = async () => {
    try {
      const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(5000) });
      const next = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
      // Somebody is selecting text to copy it: leave the page alone until they are done.
      if (next && getSelection().isCollapsed) document.querySelector("main").replaceWith(next);
      document.body.classList.remove("lost");
    } catch {
      document.body.classList.add("lost");
    }
    setTimeout(refresh, 2000);
  };
  setTimeout(refresh, 2000);
})();
