# PowerShell completion of ark-catalog-container-tool.

Register-ArgumentCompleter -Native -CommandName 'ark-catalog-container-tool' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $words = @($commandAst.CommandElements |
        Where-Object { $_.Extent.StartOffset -lt $cursorPosition } |
        ForEach-Object { $_.Extent.Text })
    $program, $words = $words
    $words = @($words)
    # Between two words, the incomplete word is empty.
    if ($commandAst.CommandElements[-1].Extent.EndOffset -lt $cursorPosition) { $words += '' }
    # Older versions of PowerShell omit empty words unless they are quoted.
    if ($PSNativeCommandArgumentPassing -notin 'Standard', 'Windows') {
        $words = @($words | ForEach-Object { if ($_ -eq '') { '""' } else { $_ } })
    }
    $paths, $candidates = & $program --complete -- @words 2>$null
    $candidates | Where-Object { $_ } | ForEach-Object {
        $word, $help = $_ -split "`t", 2
        if (-not $help) { $help = $word }
        [System.Management.Automation.CompletionResult]::new($word, $word, 'ParameterValue', $help)
    }
    # PowerShell completes files itself if nothing is returned.
}
