"""The loss curve as an SVG, which is text: it needs no drawing library, and a page can show it."""

from collections.abc import Sequence

WIDTH, HEIGHT, MARGIN = 640, 320, 48
COLORS = {"training": "#0d9488", "validation": "#b45309"}


def loss_curve(curves: dict[str, Sequence[tuple[int, float]]]) -> str:
    """An SVG image of named curves of (step, loss). The axis of loss starts at zero."""
    points = [point for curve in curves.values() for point in curve]
    last = max((step for step, _ in points), default=1)
    top = max((loss for _, loss in points), default=1.0)

    def place(step: float, loss: float) -> str:
        x = MARGIN + step / last * (WIDTH - 2 * MARGIN)
        y = HEIGHT - MARGIN - loss / top * (HEIGHT - 2 * MARGIN)
        return f"{x:.1f},{y:.1f}"

    parts = [_axes(last, top)]
    for i, (name, curve) in enumerate(curves.items()):
        color = COLORS.get(name, "#334155")
        line = " ".join(place(step, loss) for step, loss in curve)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        words = f"{name}, last {curve[-1][1]:.3f}" if curve else name
        parts.append(_words(WIDTH - MARGIN, MARGIN + 18 * i, words, color, "end"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="13"><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _axes(last: int, top: float) -> str:
    left, right, floor = MARGIN, WIDTH - MARGIN, HEIGHT - MARGIN
    lines = f'<path d="M{left} {MARGIN}V{floor}H{right}" fill="none" stroke="#475569"/>'
    return lines + "".join(
        (
            _words(left - 6, MARGIN + 4, f"{top:.1f}", "#475569", "end"),
            _words(left - 6, floor, "0", "#475569", "end"),
            _words(right, floor + 18, f"{last} updates", "#475569", "end"),
            _words(left, MARGIN - 12, "loss (nats per token)", "#475569", "start"),
        )
    )


def _words(x: int, y: int, text: str, color: str, anchor: str) -> str:
    return f'<text x="{x}" y="{y}" fill="{color}" text-anchor="{anchor}">{text}</text>'
