"""The program `mnist-jax`, as `python -m mnist_jax` too."""

from mnist_jax.cli.program import guard

guard()

from mnist_jax.cli.commands import main  # noqa: E402

if __name__ == "__main__":
    main()
