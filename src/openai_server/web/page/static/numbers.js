// Numbers as people read them.

// A browser's first formatter takes it tens of milliseconds: it is made when there is a number to show.
const formatter = (options) => {
  let made;
  return (value) => (made ??= new Intl.NumberFormat("en", options)).format(value);
};

/** Return a number with all its digits, in groups. */
export const inFull = formatter({});

/** Return a number in few characters. */
export const inShort = formatter({ notation: "compact", maximumFractionDigits: 1 });
