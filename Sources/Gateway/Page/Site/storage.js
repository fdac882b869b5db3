// What outlives a reload. Browsers that keep nothing for this page make it forgetful, not broken.

function over(open) {
  const memory = new Map();
  const attempt = (work, fallback) => {
    try {
      return work(open());
    } catch {
      return fallback();
    }
  };
  return {
    get: (name) => attempt((storage) => storage.getItem(name), () => memory.get(name) ?? null),
    set: (name, text) => attempt((storage) => storage.setItem(name, text), () => memory.set(name, text)),
    remove: (name) => attempt((storage) => storage.removeItem(name), () => memory.delete(name)),
  };
}

/** Kept in this browser. */
export const kept = over(() => localStorage);
/** Kept until the tab is closed. */
export const tabOnly = over(() => sessionStorage);
