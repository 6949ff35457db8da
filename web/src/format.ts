// Numbers as people read them.

const UNKNOWN = "–";

export function count(value: number | null): string {
  return value === null ? UNKNOWN : value.toLocaleString("en-US");
}

export function bytes(value: number | null): string {
  if (value === null) return UNKNOWN;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

export function seconds(value: number | null): string {
  if (value === null) return UNKNOWN;
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${value.toFixed(1)} s`;
  const whole = Math.round(value);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  return h > 0 ? `${h} h ${m} min` : `${m} min ${s} s`;
}

export function usd(value: number | null): string {
  if (value === null) return UNKNOWN;
  return `$${value.toFixed(value !== 0 && Math.abs(value) < 0.01 ? 6 : 2)}`;
}

/** The change from an earlier value: `+12 (+1.2 %)`; empty when one of the two is not known. */
export function change(now: number | null, before: number | null | undefined, show: (value: number) => string): string {
  if (now === null || before === null || before === undefined) return "";
  if (now === before) return "±0";
  const sign = now > before ? "+" : "−";
  const share = before === 0 ? "" : ` (${sign}${Math.abs(((now - before) / before) * 100).toFixed(1)} %)`;
  return `${sign}${show(Math.abs(now - before))}${share}`;
}

/** True when so much of a figure is gone that a person should look. */
export function isLoss(now: number | null, before: number | null | undefined): boolean {
  return now !== null && before !== null && before !== undefined && now < before * 0.9;
}

/** A time of the clock, in the reader's zone. */
export function clock(value: string | null): string {
  return value === null ? UNKNOWN : new Date(value).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

export function clip(text: string, length: number): string {
  const characters = [...text];
  return characters.length <= length ? text : `${characters.slice(0, length - 1).join("")}…`;
}
