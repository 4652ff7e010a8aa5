"""The command `mnist-jax`, which is also `python -m mnist_jax`."""

from mnist_jax.cli.program import guard

guard()

from mnist_jax.cli.commands import main  # noqa: E402

if __name__ == "__main__":
    main()
