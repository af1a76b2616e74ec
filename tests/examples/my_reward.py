def close(prompt, response, answer, **columns):
    """1 for the right number, a tenth less for every unit beside it; None where it does not apply."""
    if answer is None:
        return None
    try:
        return max(0.0, 1 - 0.1 * abs(int(response) - int(answer)))
    except ValueError:
        return 0.0  # no number is wrong; what is raised is missing, and never 0
