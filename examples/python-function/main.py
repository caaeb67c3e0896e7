"""A plain function in Python: what it returns is the answer."""

import math


def main(request):
    """GET /?n=360 → its divisors."""
    try:
        n = int(request.args.get("n", "12"))
    except ValueError:
        return {"error": "n must be a whole number"}, 422
    if not 1 <= n <= 10**12:
        return {"error": "n must be from 1 to 10^12"}, 422
    small = [d for d in range(1, math.isqrt(n) + 1) if n % d == 0]
    return {"n": n, "divisors": sorted({*small, *(n // d for d in small)})}
